"""Attributes the program's time to commands: the time is cut into pieces that belong to one command each.

While the TIU works, the time belongs to the TIU's command. While only the TDMA works, it belongs to the TDMA's command.
So the pieces do not overlap, and together with the time in which both engines wait they add up to the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.arrays import Ints
from npusim.timing.timeline import TDMA, TIU, Timeline


@dataclass(frozen=True)
class Pieces:
    """Pieces of time in order, which do not overlap. A piece belongs to the command at `place` among those of `engine`
    (TIU or TDMA) in program order."""

    start_ps: Ints
    end_ps: Ints
    engine: Ints
    place: Ints

    @property
    def ps(self) -> Ints:
        return self.end_ps - self.start_ps

    def of_commands(self, values: tuple[Ints, Ints]) -> Ints:
        """For each piece, the value of its command. `values` is (values of TIU commands, values of TDMA commands)."""
        places = [np.zeros_like(self.place) if not len(v) else v.take(self.place, mode="clip") for v in values]
        return np.where(self.engine == TIU, places[TIU], places[TDMA])


def pieces_of(timeline: Timeline) -> Pieces:
    """The pieces of a timeline: every TIU command, and the parts of every TDMA command in which the TIU does not
    work."""
    tiu, tdma = (
        np.stack(
            [
                timeline.start_ps[e],
                timeline.end_ps[e],
                np.full(len(timeline.start_ps[e]), e),
                np.arange(len(timeline.start_ps[e])),
            ]
        )
        for e in (TIU, TDMA)
    )
    gap_start = np.concatenate([[np.iinfo(np.int64).min], tiu[1]])
    gap_end = np.concatenate([tiu[0], [np.iinfo(np.int64).max]])
    first = np.searchsorted(gap_end, tdma[0], side="right")
    last = np.searchsorted(gap_start, tdma[1], side="left")
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(tdma.shape[1]), count)
    gap = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
    start, end = np.maximum(tdma[0, which], gap_start[gap]), np.minimum(tdma[1, which], gap_end[gap])
    exposed = np.stack([start, end, np.full(len(which), TDMA), which])[:, end > start]
    pieces = np.concatenate([tiu, exposed], axis=1)
    return Pieces(*pieces[:, np.argsort(pieces[0], kind="stable")])


@dataclass(frozen=True)
class LayerRuns:
    """Runs of neighbouring pieces of one layer, in order. They do not overlap."""

    start_ps: Ints
    end_ps: Ints
    layer: Ints


def layer_runs(timeline: Timeline, pieces: Pieces) -> LayerRuns:
    """The runs of `pieces`, which are the pieces of `timeline`."""
    layer = pieces.of_commands(timeline.workload.layer)
    first = np.flatnonzero(np.diff(layer, prepend=-1))
    last = np.append(first, len(layer))[1:] - 1
    return LayerRuns(pieces.start_ps[first], pieces.end_ps[last], layer[first])
