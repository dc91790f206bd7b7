"""The time and work of each layer, tensor and kind of instruction of a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from npusim.arrays import Ints
from npusim.insn import INSTRUCTIONS
from npusim.profile.attribution import Pieces
from npusim.profile.names import TensorNames
from npusim.timing.timeline import PS_PER_MS, TDMA, TIU, Timeline


@dataclass(frozen=True)
class TimeShare:
    """The time and work of one layer, tensor or kind of instruction."""

    name: str
    """The layer's number, the tensor's name, or the instruction's mnemonic."""
    num_commands: int
    ps: int
    """Its pieces of the program's time (profile.attribution), in picoseconds."""
    share: float
    """`ps` as a share of the program's time, 0 to 1."""
    tiu_ps: int
    """How long its TIU commands run, in picoseconds."""
    tdma_ps: int
    macs: int
    dram_bytes: int
    start_ps: int
    """When its first command starts, counted from the program's start."""
    end_ps: int
    """When its last command ends."""
    tensor: str = ""
    """The tensor of the file that a layer's first command works for; "" otherwise."""

    @property
    def ms(self) -> float:
        return self.ps / PS_PER_MS

    @property
    def tiu_ms(self) -> float:
        return self.tiu_ps / PS_PER_MS

    @property
    def tdma_ms(self) -> float:
        return self.tdma_ps / PS_PER_MS


def layer_shares(timeline: Timeline, pieces: Pieces, tensors: TensorNames | None) -> tuple[TimeShare, ...]:
    """A TimeShare for each layer number, in the order in which the layers begin."""
    shares = _shares(timeline, pieces, timeline.workload.layer, str)
    if tensors is None:
        return shares
    named = {str(layer): tensor for layer, tensor in tensors.of_layers(timeline.workload).items()}
    return tuple(replace(share, tensor=named[share.name]) for share in shares)


def tensor_shares(timeline: Timeline, pieces: Pieces, tensors: TensorNames) -> tuple[TimeShare, ...]:
    """A TimeShare for each tensor of the file that commands work for, in the order in which they begin."""
    return _shares(timeline, pieces, tensors.of, tensors.name)


def instruction_shares(timeline: Timeline, pieces: Pieces) -> tuple[TimeShare, ...]:
    """A TimeShare for each kind of instruction, the longest first."""
    kinds = (timeline.workload.tiu.kind, timeline.workload.tdma.kind)
    shares = _shares(timeline, pieces, kinds, lambda kind: INSTRUCTIONS[kind].mnemonic)
    return tuple(sorted(shares, key=lambda share: -share.ps))


def _shares(
    timeline: Timeline, pieces: Pieces, key: tuple[Ints, Ints], name: Callable[[int], str]
) -> tuple[TimeShare, ...]:
    """A TimeShare for each value of `key`, which is (values of TIU commands, values of TDMA commands)."""
    work, num_tiu = timeline.workload, len(key[TIU])
    keys, inverse = np.unique(np.concatenate(key), return_inverse=True)
    group = (inverse[:num_tiu], inverse[num_tiu:])

    def total(values: Ints, groups: Ints) -> list[int]:
        out = np.zeros(len(keys), np.int64)
        np.add.at(out, groups, values)
        return out.tolist()

    starts, ends = np.full(len(keys), np.iinfo(np.int64).max), np.zeros(len(keys), np.int64)
    np.minimum.at(starts, inverse, np.concatenate(timeline.start_ps))
    np.maximum.at(ends, inverse, np.concatenate(timeline.end_ps))
    busy = [total(timeline.end_ps[e] - timeline.start_ps[e], group[e]) for e in (TIU, TDMA)]
    counts, pieces_ps = np.bincount(inverse, minlength=len(keys)).tolist(), total(pieces.ps, pieces.of_commands(group))
    macs, moved = total(work.tiu.macs, group[TIU]), total(timeline.moved_bytes, group[TDMA])
    shares = [
        TimeShare(
            name=name(key),
            num_commands=counts[i],
            ps=pieces_ps[i],
            share=pieces_ps[i] / max(timeline.ps, 1),
            tiu_ps=busy[TIU][i],
            tdma_ps=busy[TDMA][i],
            macs=macs[i],
            dram_bytes=moved[i],
            start_ps=int(starts[i]) - timeline.first_ps,
            end_ps=int(ends[i]) - timeline.first_ps,
        )
        for i, key in enumerate(keys.tolist())
    ]
    return tuple(sorted(shares, key=lambda share: share.start_ps))
