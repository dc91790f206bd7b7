"""A run on disk: one safetensors file, written whole or not at all.

It holds the parameters, both moments of AdamW and the step."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from golden.whole import replacing
from reference_model.errors import ModelError
from reference_model.train.network import Params


@dataclass(frozen=True)
class TrainingState:
    """A run after `step` steps. The arrays are updated in place."""

    params: Params
    first: Params
    second: Params
    step: int

    @classmethod
    def fresh(cls, params: Params) -> TrainingState:
        """The state before the first step."""
        zeros = [{name: np.zeros_like(value) for name, value in params.items()} for _ in range(2)]
        return cls(params, zeros[0], zeros[1], 0)


PARTS = ("params", "first", "second")


def save_checkpoint(path: Path, state: TrainingState) -> None:
    tensors = {f"{part}/{name}": value for part in PARTS for name, value in getattr(state, part).items()}
    tensors["step"] = np.array([state.step])
    with saving(path) as partial:
        save_file(tensors, partial, metadata={"crc32": _crc32(tensors)})


@contextmanager
def saving(path: Path) -> Iterator[Path]:
    """As golden.whole.replacing, with the bytes on the disk first. Raises ModelError when `path` cannot be written."""
    try:
        with replacing(path, fsync=True) as partial:
            yield partial
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write {path} ({error}): use a directory with room that may be written") from None


def load_checkpoint(path: Path, like: Params) -> TrainingState:
    """The state that save_checkpoint wrote.

    Raises ModelError when the file is damaged, or belongs to a model of other shapes than `like`."""
    try:
        with safe_open(path, framework="numpy") as file:
            recorded = (file.metadata() or {}).get("crc32")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        if recorded not in (None, _crc32(tensors)):
            raise ValueError("its bytes are not those that were written")
    except (OSError, SafetensorError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"checkpoint {path} cannot be read ({error}): delete it to start again") from None
    wanted = {f"{part}/{name}": (value.shape, value.dtype) for part in PARTS for name, value in like.items()}
    wanted["step"] = ((1,), np.dtype(np.int64))
    if {name: (value.shape, value.dtype) for name, value in tensors.items()} != wanted:
        raise ModelError(
            f"checkpoint {path} belongs to a model of other sizes: use the options it was started with, or "
            "another directory"
        )
    params, first, second = ({name: tensors[f"{part}/{name}"] for name in like} for part in PARTS)
    return TrainingState(params, first, second, int(tensors["step"][0]))


def _crc32(tensors: Params) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].tobytes(), value)
    return f"{value:08x}"
