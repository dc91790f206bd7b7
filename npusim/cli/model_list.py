"""`npusim model list`: the language models that are known by name."""

from __future__ import annotations

from dataclasses import asdict

from npusim.cli.command import Command
from npusim.cli.options.files import JsonOutput
from npusim.cli.options.option import Given
from npusim.cli.printing import console
from npusim.cli.reporters.language_models import KnownModel, language_model_table
from reference_model.fetch import FETCHABLE, target_path
from reference_model.loading import BUILTIN

JSON = JsonOutput()


class ListCommand(Command):
    example = "npusim model list"
    options = (JSON,)

    def run(self, given: Given) -> int:
        known = known_models()
        given[JSON].write([asdict(model) | {"path": str(model.path) if model.path else None} for model in known])
        if not given[JSON].printed:
            console().print(language_model_table(known))
        return 0


COMMAND = ListCommand()


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
