"""Waits against a twin in plain Python and against the vendor's model; decoding, timing and checking agree on them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim.check import Kind, check
from npusim.check.ordering import ordering_of
from npusim.chip import CHIPS, CV181X, Chip
from npusim.errors import Deadlock
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import TDMA, TIU, PerEngine
from npusim.kernels import Fmt, KernelBuilder, Tl, emit, tg
from npusim.loader.cvimodel import load_cvimodel
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.decode import decode_cmdbuf
from npusim.program.dmabuf import parse_dmabuf, write_dmabuf
from npusim.program.model import named_cmdbufs
from npusim.program.waits import waits_of
from npusim.timing.schedule import find_blocks, run
from npusim.timing.workload import concatenate, workload_of_cmdbuf
from tests.program import id_streams
from tests.program.id_streams import ANY_IDS, LAST_ID, Command, cmdbuf_of, commands, needs_of, numbered, programs

MODELS = sorted((Path(__file__).parents[2] / "golden" / "data" / "functional").glob("*.cvimodel"))
STREAMS = ANY_IDS | programs()

VENDOR_ORDERS = {
    "T10 D11 T1:1 D1": "T0 D0 D1 T1",
    "T10 T1:1 D11 D1": "T0 D0 D1 T1",
    "T5 T1:2 D11 D12:5 D1 D2": "T0 D0 D1 D2 D3 T1",
    "D3 D3 T3:1 D7:1 T3:1 T3:1 D4 T2": "D0 T0 D1 T1 D2 T2 D3 T3",
    "T2 T6 T7 D7 T5:1 T5 D3 D5 T3 T4:3 T7:3 D4 D4:1 D6:5": "T0 D0 T1 T2 D1 T3 D2 T4 D3 T5 D4 T6 T7 D5",
    "T3 T5:1 D5 D5 D2 D3 T7:2 T3 D5:5 T6 D1 T1:5 D7": "T0 D0 T1 D1 T2 D2 T3 D3 T4 D4 D5 D6 T5",
    "D3 T65534:3 T65535 D1 T1:1": "D0 T0 T1 D1 T2",
    "D1 D1 T1:1": "D0 T0 D1",
    "D1 D2 D2 T1:2 D3:1": "D0 D1 T0 D2 D3",
}
"""Ids and waits (see `commands`) and the order in which the vendor's functional model (tpu-mlir 1.30.2) runs them on
cv180x, cv181x and cv183x. It never ends where the ids of one engine fall more often than the other's."""


def decoded_order(cmdbuf: Cmdbuf) -> list[int] | None:
    try:
        return [instruction.index for instruction in decode_cmdbuf(cmdbuf)]
    except Deadlock:
        return None


def scheduled_starts(needs: PerEngine) -> PerEngine | None:
    """Starts where each command takes one unit and nothing passes between two."""
    try:
        return run(find_blocks(needs), PerEngine(*(np.ones_like(n) for n in needs)), PerEngine(0, 0), 0)
    except Deadlock:
        return None


def assert_all_agree(cmdbuf: Cmdbuf) -> None:
    """Decoding, timing and checking keep the same waits, and find a deadlock together."""
    waits, workload = waits_of(cmdbuf), workload_of_cmdbuf(cmdbuf)
    ordering = ordering_of(cmdbuf, lambda _: "")
    order, starts = decoded_order(cmdbuf), scheduled_starts(workload.needs)
    assert (order is None) == (starts is None) == (len(ordering.order) < cmdbuf.num_commands) == bool(waits.stuck)
    if order is None or starts is None:
        return
    place = np.argsort(order)
    checked = np.argsort([step.index for step in ordering.order])
    for e in (TIU, TDMA):
        needs, others = workload.needs[e], cmdbuf.index.other(e)
        assert [step.known for step in ordering.streams[e]] == np.maximum.accumulate(needs).tolist()
        waiting = needs > 0
        own, last = cmdbuf.index[e][waiting], others[needs[waiting] - 1]
        assert (place[own] > place[last]).all()
        assert (checked[own] > checked[last]).all()
        assert (starts[e][waiting] >= starts.other(e)[needs[waiting] - 1] + 1).all()


@given(STREAMS)
def test_needs_are_those_of_the_scalar_twin(stream: list[Command]) -> None:
    waits = waits_of(cmdbuf_of(stream))
    for e in (TIU, TDMA):
        wanted = [need for command, need in zip(stream, needs_of(stream), strict=True) if command.is_tiu == (e == TIU)]
        never = len(waits.ids.other(e)) + 1
        assert waits.needs[e].tolist() == [never if need is None else need for need in wanted]


@given(STREAMS)
def test_commands_run_as_on_a_machine_that_knows_but_the_last_id_of_each_engine(stream: list[Command]) -> None:
    cmdbuf, order = cmdbuf_of(stream), id_streams.run(stream)
    if len(order) == len(stream):
        assert decoded_order(cmdbuf) == order
    else:
        places, waits = iter(order), waits_of(cmdbuf)
        assert [stream[next(places)].is_tiu for _ in waits.turns] == [engine == TIU for engine in waits.turns]
        assert len(waits.turns) == len(order) and decoded_order(cmdbuf) is None


@settings(max_examples=60)
@given(STREAMS)
def test_decoding_timing_and_checking_agree_on_any_ids(stream: list[Command]) -> None:
    assert_all_agree(cmdbuf_of(stream))


@given(st.lists(programs(most=1), min_size=1, max_size=4))
def test_a_program_behind_others_waits_for_all_of_them_and_then_as_it_does_alone(parts: list[list[Command]]) -> None:
    together = waits_of(cmdbuf_of([command for part in parts for command in part]))
    alone = [waits_of(cmdbuf_of(part)) for part in parts]
    for e in (TIU, TDMA):
        done = np.cumsum([0, *(len(waits.ids.other(e)) for waits in alone)]).tolist()
        wanted = [need + count for waits, count in zip(alone, done, strict=False) for need in waits.needs[e].tolist()]
        assert together.needs[e].tolist() == wanted
    assert not together.stuck


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_decoding_timing_and_checking_agree_on_the_vendors_programs(path: Path) -> None:
    for cmdbuf in named_cmdbufs(load_cvimodel(path)).values():
        assert_all_agree(cmdbuf)


@pytest.mark.parametrize("text", VENDOR_ORDERS)
def test_commands_run_in_the_order_of_the_vendors_model(text: str) -> None:
    order = decoded_order(cmdbuf_of(commands(text)))
    assert order is not None and numbered(commands(text), order) == VENDOR_ORDERS[text]


def test_the_second_of_two_programs_starts_when_the_first_has_ended() -> None:
    """Each loads, adds and stores. The ids of the TDMA fall, those of the TIU are 1 and 1."""
    cmdbuf = cmdbuf_of(commands("D1 T1:1 D2:1 D1 T1:1 D2:1"))
    assert workload_of_cmdbuf(cmdbuf).needs.tiu.tolist() == [1, 3]
    assert workload_of_cmdbuf(cmdbuf).needs.tdma.tolist() == [0, 1, 1, 2]
    assert decoded_order(cmdbuf) == [0, 1, 2, 3, 4, 5]
    assert not {Kind.RACE, Kind.DEADLOCK, Kind.ID_GAP, Kind.ID_REPEATED} & {f.kind for f in check(cmdbuf)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("D1 D2 T1 D1 T2:2", r"TIU command 4 waits for TDMA id 2, but TDMA has done 1;"),
        ("T1 D65535 D2:1", r"deadlock: TDMA command 2 waits for TIU id 1, but TIU has done 0;"),
        ("T5:3 D2 T1 D1 D3", r"TIU command 0 waits for TDMA id 3, but TDMA has done 2;"),
        ("T1:3 D1:2", r"TIU command 0 waits for TDMA id 3, but TDMA has done 0 and TDMA command 1 waits for TIU id 2"),
    ],
)
def test_a_wait_is_not_met_by_a_command_of_another_segment(text: str, message: str) -> None:
    cmdbuf = cmdbuf_of(commands(text))
    with pytest.raises(Deadlock, match=message):
        decode_cmdbuf(cmdbuf)
    assert_all_agree(cmdbuf)
    (finding,) = [finding for finding in check(cmdbuf) if finding.kind == Kind.DEADLOCK]
    for stuck, place in zip(waits_of(cmdbuf).stuck, finding.commands, strict=True):
        assert cmdbuf.index[stuck.engine][stuck.position] == place


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(programs(most=1), min_size=1, max_size=4))
def test_segments_of_a_dmabuf_wait_as_the_command_buffer_does(parts: list[list[Command]]) -> None:
    """The order among the engines that a dmabuf does not store is not needed, whichever engine has the last id."""
    ended = [[*part[:-1], part[-1]._replace(id=LAST_ID)] for part in parts[:-1]]
    cmdbuf = cmdbuf_of([command for part in [*ended, parts[-1]] for command in part])
    segments = parse_dmabuf(CV181X, write_dmabuf(cmdbuf))
    assert len(segments) == len(parts)
    joined = concatenate([workload_of_cmdbuf(segment) for segment in segments])
    assert [n.tolist() for n in joined.needs] == [n.tolist() for n in workload_of_cmdbuf(cmdbuf).needs]
    assert not waits_of(cmdbuf).stuck and not any(waits_of(segment).stuck for segment in segments)


class Call(NamedTuple):
    """A call to a kernel builder; tensors start at these places, counted in 16 bytes a lane."""

    kind: str
    source: int
    target: int
    size: int

    @property
    def engine(self) -> int:
        return TIU if self.kind == "copy" else TDMA

    @property
    def reads(self) -> set[int]:
        return set() if self.kind == "load" else set(range(self.source, self.source + self.size))

    @property
    def writes(self) -> set[int]:
        return set() if self.kind == "store" else set(range(self.target, self.target + self.size))

    def emit(self, builder: KernelBuilder) -> None:
        shape = (1, builder.chip.num_lanes, 1, 8 * self.size)
        strides = builder.tl_default_stride(shape, Fmt.BF16)
        source, target = (Tl(16 * place, shape, strides, Fmt.BF16) for place in (self.source, self.target))
        if self.kind == "load":
            builder.tdma_g2l_tensor_copy(tg(0, shape, Fmt.BF16), target)
        elif self.kind == "store":
            builder.tdma_l2g_tensor_copy(source, tg(0, shape, Fmt.BF16))
        elif self.kind == "copy":
            builder.tiu_copy(target, source)
        else:
            getattr(builder, self.kind)()


PLACES = st.integers(0, 6)


def calls(*more: str) -> st.SearchStrategy[list[Call]]:
    kinds = st.sampled_from(["load", "copy", "store", "copy", *more])
    return st.lists(st.builds(Call, kinds, PLACES, PLACES, st.integers(1, 3)), min_size=1, max_size=24)


def conflict(a: Call, b: Call) -> bool:
    return bool(a.writes & (b.writes | b.reads) or b.writes & a.reads)


def in_buffers(made: list[Call], last_id: int) -> list[list[Call]]:
    """Calls by the command buffer that they belong in: one ends where it is told to, and behind the last id."""
    buffers: list[list[Call]] = [[]]
    for call in made:
        full = any(sum(c.engine == e for c in buffers[-1]) == last_id for e in (TIU, TDMA))
        if full or call.kind == "start_cmdbuf":
            buffers.append([])
        if call.kind != "start_cmdbuf":
            buffers[-1].append(call)
    return [buffer for buffer in buffers if buffer]


@given(calls("start_cmdbuf"), st.sampled_from([4, LAST_ID]), st.sampled_from(CHIPS))
def test_needs_read_from_a_built_buffer_are_those_that_the_builder_meant(
    made: list[Call], last_id: int, chip: Chip
) -> None:
    """A command waits for the other engine up to the last command with which it conflicts in its command buffer."""
    builder = KernelBuilder(chip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "LAST_ID", last_id)
        for call in made:
            call.emit(builder)
    meant, built = in_buffers(made, last_id), builder.build().cmdbufs
    assert len(built) == len(meant)
    for data, buffer in zip(built, meant, strict=True):
        known = PerEngine[list[int]]([], [])
        for place, call in enumerate(buffer):
            others = [other for other in buffer[:place] if other.engine != call.engine]
            needed = max((i for i, other in enumerate(others, 1) if conflict(call, other)), default=0)
            known[call.engine].append(max([needed, *known[call.engine]]))
        waits = waits_of(parse_cmdbuf(chip, data))
        assert [k.tolist() for k in waits.known] == list(known)
        assert not waits.stuck


@given(calls("parallel_enable", "parallel_disable"))
def test_vendor_waits_read_from_a_built_buffer_are_for_all_that_stood_in_front(made: list[Call]) -> None:
    """But within a parallel region, where they are for all in front of the region."""
    builder, known, counts = KernelBuilder("cv181x", sync="vendor"), PerEngine[list[int]]([], []), [0, 0]
    before: list[int] | None = None
    for call in made:
        call.emit(builder)
        if call.kind.startswith("parallel"):
            before = list(counts) if call.kind == "parallel_enable" else None
        else:
            wanted = (before or counts)[1 - call.engine]
            known[call.engine].append(max([wanted, *known[call.engine]]))
            counts[call.engine] += 1
    if any(counts):
        assert [k.tolist() for k in waits_of(parse_cmdbuf(CV181X, builder.build().cmdbuf)).known] == list(known)


@settings(max_examples=30)
@given(st.sampled_from(CHIPS), st.data())
def test_a_column_read_alone_is_that_of_the_whole_descriptor(chip: Chip, data: st.DataObject) -> None:
    for layout in (tiu_layout(chip), tdma_layout(chip)):
        text = data.draw(st.binary(min_size=3 * layout.num_bytes, max_size=3 * layout.num_bytes))
        rows = np.frombuffer(text, np.uint8).reshape(3, -1)
        for name, column in layout.decode(rows).items():
            assert layout.column(rows, name).tolist() == column.tolist(), name
