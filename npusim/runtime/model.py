"""`Model`: a .cvimodel on a simulated chip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from numpy.typing import ArrayLike, NDArray

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.html import html_table
from npusim.loader.cvimodel import open_cvimodel
from npusim.runtime.bind import load_program
from npusim.runtime.frame import FRAME_ALIGNMENT
from npusim.runtime.inputs import input_array
from npusim.runtime.tensor import TensorInfo
from npusim.state import State


class Model:
    """A compiled network, loaded once and run as often as wanted.

    >>> import numpy as np
    >>> model = Model("golden/data/functional/mlp_cv181x_int8.cvimodel")
    >>> model.inputs
    (<TensorInfo x (1, 16, 64, 1) FP32>,)
    >>> model.forward({"x": np.zeros((1, 16, 64), np.float32)})["11_Add_f32"][0, 0, :2, 0]
    array([-0.09814453, -0.05224609], dtype=float32)

    Every instruction is validated and bound to memory when the model is loaded; `forward` is copies and NumPy calls.
    GMEM and LMEM keep their content between calls, as on the chip. Two models share nothing; one model runs one
    `forward` at a time."""

    def __init__(self, path: str | Path, *, program: int = 0, verify_md5: bool = True) -> None:
        """Loads the .cvimodel at `path`.

        `program` picks one where the file holds several (one for each batch size). `verify_md5=False` reads files that
        were edited after compilation.

        Raises FileFormatError for a damaged or unsupported file; IllegalInstruction, AddressError or Deadlock for
        commands that the chip cannot run; UsageError for a path that cannot be read or a `program` that the file
        does not have. Native code in a file is never run."""
        with open_cvimodel(path, verify_md5=verify_md5) as file:
            if not 0 <= program < len(file.programs):
                raise UsageError(
                    f"program {program} does not exist; the file holds programs 0 to {len(file.programs) - 1}"
                )
            self.chip: Chip = file.chip
            self.name: str = file.name
            self.num_programs: int = len(file.programs)
            self._program = file.programs[program]
            self._loaded = load_program(file, self._program)

    @property
    def state(self) -> State:
        """The chip's memory and registers, as in `Machine.state`. GMEM is the model's memory map."""
        return self._loaded.state

    def __repr__(self) -> str:
        taken, given = (", ".join(_short(info) for info in infos) for infos in (self.inputs, self.outputs))
        return f"<Model {self.name} for {self.chip.name}: {taken} -> {given}, {self.num_bytes:,} bytes of GMEM>"

    def _repr_html_(self) -> str:
        roles = {info.name: "input" for info in self.inputs} | {info.name: "output" for info in self.outputs}
        columns = ("tensor", "", "shape", "format", "qscale", "bytes")
        return html_table(repr(self)[1:-1], columns, [_row(info, roles.get(info.name, "")) for info in self.tensors])

    @property
    def num_bytes(self) -> int:
        """GMEM of the model's memory map: weights, activations, inputs and outputs."""
        return len(self._loaded.state.gmem)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What `forward` takes, in the model's order."""
        return tuple(self._loaded.tensors[name].info for name in self._program.inputs)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What `forward` gives, in the model's order."""
        return tuple(self._loaded.tensors[name].info for name in self._program.outputs)

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every activation, in program order."""
        return tuple(tensor.info for tensor in self._loaded.tensors.values())

    def forward(
        self, inputs: Mapping[str, ArrayLike], all_tensors: bool = False, *, reshape: bool = False
    ) -> dict[str, NDArray]:
        """Runs the network once on `inputs`, {tensor name: array}, and returns {tensor name: array} (copies).

        An input array has its tensor's shape, where axes of 1 do not count and more than four axes may be folded. With
        `reshape`, it has any shape of as many elements, which are taken in their order.
        Its type is the tensor's own. An INT8, UINT8, INT16, UINT16 or BF16 tensor also takes floats, which are
        converted as the vendor's runner converts them (npusim.runtime.quantize); BF16 takes ml_dtypes.bfloat16; all
        take integers that fit. An aligned tensor takes its whole padded buffer, or plain pixels, which are then padded.

        Returned arrays have the tensor's four-dimensional shape and `TensorInfo.dtype`; bf16 comes as uint16 bit
        patterns, an aligned tensor as its flat buffer. With `all_tensors`, every activation whose memory was not reused
        comes back too, as with the vendor's "output all tensors" option. (That option leaves out outputs whose memory
        the compiler reused. Here they are given; they hold what came later.)

        Raises UsageError for a missing, unknown or unfit input, before anything runs. In the middle of a run, raises
        IllegalInstruction or UsageError where a command or a CPU routine meets data that it cannot work on, such as
        a damaged compressed weight or an index out of range."""
        for name, array in self._checked(inputs, reshape).items():
            self.memory(name)[...] = array
        self.run()
        names = self._program.outputs
        if all_tensors:
            kept = {*names, *self.kept}
            names = tuple(tensor.name for tensor in self._program.tensors if tensor.name in kept)
        return {name: self.memory(name).copy() for name in names}

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the activations whose memory nothing else uses, so that they are still there after a run; in
        program order."""
        return tuple(tensor.name for tensor in self._program.tensors if not tensor.overwritten)

    def memory(self, name: str) -> NDArray:
        """The memory of the activation `name` itself, in the shape and type that `forward` gives: what is written into
        an input's is what `run` reads."""
        return self._loaded.tensors[name].array

    def run(self) -> None:
        """Runs the network once on what the memory of its inputs holds; raises what `forward` raises in the middle of a
        run."""
        for step in self._loaded.steps:
            step()

    def _checked(self, inputs: Mapping[str, ArrayLike], reshape: bool = False) -> dict[str, NDArray]:
        wanted = self._program.inputs
        if set(inputs) != set(wanted):
            wrong = sorted(set(wanted) ^ set(inputs))[0]
            raise UsageError(
                f"input {wrong!r} is {'missing' if wrong in wanted else 'unknown'}; the model takes {', '.join(wanted)}"
            )
        alignment = FRAME_ALIGNMENT[self.chip.name]
        return {
            name: input_array(inputs[name], self._loaded.tensors[name], alignment, reshape=reshape) for name in wanted
        }


def _short(info: TensorInfo) -> str:
    return f"{info.name} {info.shape} {info.format.name}"


def _row(info: TensorInfo, role: str) -> tuple[object, ...]:
    scale = f"{info.qscale:g}" if info.qscale != 1 else ""
    return (info.name, role, "x".join(map(str, info.shape)), info.format.name, scale, f"{info.num_bytes:,}")
