"""What a CPU routine is given, and checked access to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from npusim.errors import FileFormatError
from npusim.loader.cpu_args import Attribute
from npusim.loader.cvimodel_types import DType
from npusim.runtime.tensor import BoundTensor, TensorInfo

Bound = Callable[[], None]
"""A routine bound to its tensors. Each call runs it once."""

_A = TypeVar("_A", int, float, str, list)


@dataclass(frozen=True)
class CpuCall:
    """One call of a CPU function in a program."""

    function: str
    inputs: tuple[BoundTensor, ...]
    outputs: tuple[BoundTensor, ...]
    args: Mapping[str, Attribute]

    def refuse(self, rule: str) -> NoReturn:
        """Raises FileFormatError that names the routine and its outputs and says `rule`."""
        names = ", ".join(repr(tensor.info.name) for tensor in self.outputs)
        raise FileFormatError(f"CPU routine {self.function} for {names}: {rule}")

    def require(self, condition: bool, rule: str) -> None:
        """Refuses the call with `rule` unless `condition` holds."""
        if not condition:
            self.refuse(rule)

    def arg(self, name: str, kind: type[_A], default: _A | None = None) -> _A:
        """The attribute `name`, which must be of `kind`; `default` where the file leaves it out."""
        value = self.args.get(name, default)
        if value is None:
            self.refuse(f"attribute {name} is missing")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(f"attribute {name} is {value!r}, but it must be of type {kind.__name__}")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """The attribute `name`, which must be true or false."""
        value = self.args.get(name, default)
        if not isinstance(value, bool):
            self.refuse(f"attribute {name} is {value!r}, but it must be true or false")
        return value

    def input(self, index: int, *formats: DType) -> NDArray:
        """Array of input `index`, which must be of one of `formats` where any are given."""
        return self._array("input", self.inputs, index, formats)

    def output(self, index: int, *formats: DType) -> NDArray:
        """Array of output `index`, which must be of one of `formats` where any are given."""
        return self._array("output", self.outputs, index, formats)

    def info(self, index: int) -> TensorInfo:
        """Description of input `index`."""
        self._array("input", self.inputs, index, ())
        return self.inputs[index].info

    def axis(self, rank: int = 4) -> int:
        """The attribute `axis`, which must be 0 to rank - 1."""
        axis = self.arg("axis", int)
        self.require(0 <= axis < rank, f"axis is {axis}, but it must be 0 to {rank - 1}")
        return axis

    def _array(self, side: str, tensors: tuple[BoundTensor, ...], index: int, formats: tuple[DType, ...]) -> NDArray:
        self.require(index < len(tensors), f"it has {len(tensors)} {side}s, but it needs {side} {index}")
        tensor = tensors[index]
        if formats and tensor.info.format not in formats:
            allowed = " or ".join(f.name for f in formats)
            self.refuse(f"{side} {tensor.info.name!r} is {tensor.info.format.name}, but it must be {allowed}")
        return tensor.array


def bf16_to_float(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """float32 values of bf16 patterns (uint16), the same shape."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
