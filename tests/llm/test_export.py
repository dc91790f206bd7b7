"""A bundle runs without npusim and gives what the simulated chip gave."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tokenizers

from golden import read_archive
from npusim import Machine
from npusim.cli.main import main
from npusim.errors import UsageError
from npusim.llm.board.export import export_bundle
from npusim.llm.generation import Generation
from npusim.llm.pages import SIDES
from npusim.llm.setup import Gather, Submit
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf, write_cmdbuf
from tests.llm.lowering import held_out, lowered, twin

pytestmark = pytest.mark.slow

STEPS = 14


@pytest.fixture(scope="module", params=[Submit.LAYER, Submit.TOKEN], ids=["a submit a layer", "a submit a token"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundles") / "bundle"
    run = Generation(lowered("bf16", 64, 32, submit=request.param), twin("bf16"), held_out(24))
    export_bundle(run, directory, STEPS)
    return directory


class MachineDevice:
    """The runner's Device on npusim's chip."""

    def __init__(self, chip: str) -> None:
        self._machine = Machine(chip)

    def write(self, addr: int, data: bytes) -> None:
        self._machine.gmem.write(addr, data)

    def read(self, addr: int, num_bytes: int) -> bytes:
        return self._machine.gmem.read(addr, num_bytes)

    def load(self, data: bytes) -> Cmdbuf:
        return parse_cmdbuf(self._machine.chip, data)

    def patch(self, program: Cmdbuf, number: int, offset: int, value: int) -> None:
        program.tdma[number, offset : offset + 4] = np.frombuffer(value.to_bytes(4, "little"), np.uint8)

    def run(self, program: Cmdbuf) -> None:
        self._machine.run_cmdbuf(write_cmdbuf(program))


def runner(directory: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle_run", directory / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_runners_driver_gives_the_golden_logits_on_the_simulated_chip(bundle: Path) -> None:
    run, manifest = runner(bundle), json.loads((bundle / "manifest.json").read_text())
    driver: Any = run.Driver(manifest, MachineDevice(manifest["chip"]))
    tokens, rows = manifest["prompt"], []
    for index in range(len(tokens) + STEPS):
        rows.append(driver.decode(tokens[index]))
        if index + 1 >= len(tokens):
            tokens.append(run.largest(rows[-1]))
    golden = read_archive(bundle / "golden.npz")["logits"]
    np.testing.assert_array_equal(
        (np.frombuffer(b"".join(rows), np.uint16).astype(np.uint32) << 16).view(np.float32), golden.reshape(-1)
    )


def test_the_runner_finds_every_page_by_the_manifests_strides_where_npusim_puts_it(bundle: Path) -> None:
    pages, low = json.loads((bundle / "manifest.json").read_text())["pages"], lowered("bf16", 64, 32)
    c, page_addr = low.config, runner(bundle).page_addr
    for place in product(range(c.num_layers), range(c.num_kv_heads), SIDES, range(1 + low.setup.num_pages)):
        assert page_addr(pages, *place) == low.pages.addr(*place)


@pytest.mark.skipif("CVI_LIB" not in os.environ, reason="CVI_LIB does not name the vendor's functional model")
def test_a_bundle_runs_on_the_vendors_runtime_and_is_equal(bundle: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(bundle / "run.py"),
        "--lib",
        os.environ["CVI_LIB"],
        "--out",
        str(tmp_path / "logits.npz"),
    ]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    assert main(["diff", str(tmp_path / "logits.npz"), str(bundle / "golden.npz")]) == 0


REFUSED = {
    "--steps 100": "24 tokens and 100 steps do not fit, the cache holds 64: take fewer, or export with --context 128",
    "--steps -1": "--steps is -1: give 0 or more",
    "--tokens 99999999": "there is no token 99999999: the vocabulary has 0 to 1023",
    "--tokens 1,x": "--tokens is '1,x': give whole numbers with commas between them",
    "--lib /nowhere": "libcvikernel.so cannot be loaded in /nowhere",
    "--out /nowhere/logits.npz": "/nowhere/logits.npz cannot be written: its directory does not exist",
}


@pytest.mark.parametrize("options", REFUSED)
def test_the_runner_refuses_in_one_sentence_what_the_bundle_cannot_do(bundle: Path, options: str) -> None:
    command = [sys.executable, str(bundle / "run.py"), *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"run.py: {REFUSED[options]}") and done.stderr.count("\n") == 1


def test_the_bundle_says_in_text_what_its_tokens_are(bundle: Path) -> None:
    tokenizer, tokens = twin("bf16").tokenizer, held_out(24)
    assert runner(bundle).text_of(tokens) == tokenizer.decode(tokens)
    assert tokenizers.Tokenizer.from_file(str(bundle / "tokenizer.json")).decode(tokens) == tokenizer.decode(tokens)
    assert "64 tokens" in (bundle / "README.md").read_text()


def test_a_directory_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    run = Generation(lowered("bf16", 64, 32), twin("bf16"), held_out(2))
    with pytest.raises(UsageError, match="is not empty"):
        export_bundle(run, tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_bundle_of_copied_pages_is_refused(tmp_path: Path) -> None:
    run = Generation(lowered("bf16", 64, 32, gather=Gather.COPY), twin("bf16"), held_out(2))
    with pytest.raises(UsageError, match="--gather at patch"):
        export_bundle(run, tmp_path / "new", 1)
    assert not (tmp_path / "new").exists()


def test_an_empty_prompt_and_a_place_that_cannot_be_written_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["llm", "export", str(tmp_path / "a"), "--prompt", ""]) == 2
    assert "the prompt is empty" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["llm", "export", str(tmp_path / "file" / "b"), "--steps", "1"]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["llm", "export", str(tmp_path / "bundle"), "--steps", "1", "--prompt", "And", "--budget", "16", "--json"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["files"].keys() >= {
        "run.py",
        "runtime.py",
        "manifest.json",
        "memory.bin",
        "embedding.bin",
        "golden.npz",
        "tokenizer.json",
        "pieces.json",
        "README.md",
    }
    assert {p.name for p in (tmp_path / "bundle").iterdir()} == said["files"].keys()
