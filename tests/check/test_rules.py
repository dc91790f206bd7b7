"""Each rule on a program that keeps it and on one that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from npusim import NpusimError
from npusim.check import MEANING, Area, Finding, Kind, check
from npusim.check.cells import Cells
from npusim.mem.region import Region
from tests.check.program import Program, W

PADS = [f"conv_opd0_{side}_pad" for side in ("up", "dn", "lf", "rt")]
A, B, C = 0x000, 0x100, 0x200


def found(program: Program, *areas: Area) -> list[tuple[Kind, tuple[int, ...]]]:
    return [(finding.kind, finding.commands) for finding in check(program.cmdbuf, areas)]


def pipeline(tiu_waits: bool = True, store_waits: bool = True) -> Program:
    """Load, copy, store."""
    p = Program()
    loaded = p.load(A)
    copied = p.copy(B, A, wait=loaded if tiu_waits else 0)
    p.store(B, wait=copied if store_waits else 0)
    return p


def test_a_program_whose_waits_order_everything_has_no_findings() -> None:
    assert found(pipeline()) == []


def test_a_read_that_does_not_wait_for_the_other_engines_write_is_a_race() -> None:
    assert found(pipeline(tiu_waits=False)) == [(Kind.RACE, (1, 0))]
    assert found(pipeline(store_waits=False)) == [(Kind.RACE, (2, 1))]


def test_a_race_names_both_commands_and_shows_them_disassembled() -> None:
    (finding,) = check(pipeline(tiu_waits=False).cmdbuf)
    assert isinstance(finding, Finding)
    assert [line.split()[0] for line in finding.disassembly] == ["tiu_copy", "tdma_g2l_tensor_copy"]
    assert (
        "command 1 (tiu_copy) reads opd0" in finding.message
        and "command 0 (tdma_g2l_tensor_copy) writes" in finding.message
    )


def test_order_carries_over_to_later_commands_of_a_stream_and_through_the_other_engine() -> None:
    p = Program()
    first = p.load(A)
    p.load(B, at=0x400)
    copied = p.copy(C, A, wait=first)
    p.copy(A, C)  # behind the load of A, since the copy in front of it is
    p.store(C, wait=copied)  # the store of C is behind the load of B in its own stream
    p.store(A, wait=2, at=0x2000)
    p.store(B, at=0x3000)
    assert found(p) == []


def test_a_load_over_what_the_tiu_may_still_read_is_a_race() -> None:
    p = pipeline()
    p.load(A, at=0x800)
    p.store(A, at=0x2000)
    assert found(p) == []  # the store of B waits for the copy, and the load follows it
    p = Program()
    copied = p.copy(B, A, wait=p.load(A))
    p.load(A, at=0x800)
    p.store(A, at=0x2000)
    p.store(B, wait=copied)
    assert found(p) == [(Kind.RACE, (2, 1))]


def test_loading_the_same_bytes_again_is_no_race_unless_their_source_has_changed() -> None:
    p = Program()
    copied = p.copy(B, A, wait=p.load(A))
    p.load(A)
    again = p.copy(C, A, wait=p.num_tdma)
    p.store(B, wait=copied)
    p.store(C, at=0x2000, wait=again)
    assert found(p) == []
    p = Program()
    copied = p.copy(B, A, wait=p.load(A))
    p.load(C, at=0x4000)
    p.store(C, at=0)
    p.load(A)
    again = p.copy(C, A, wait=p.num_tdma)
    p.store(B, wait=copied)
    p.store(C, at=0x2000, wait=again)
    assert found(p) == [(Kind.RACE, (4, 1))]


def test_a_read_of_what_nothing_wrote_is_found() -> None:
    p = Program()
    p.store(A, wait=p.copy(A, B))
    assert found(p) == [(Kind.UNINITIALISED, (0,))]


def test_a_read_that_no_result_depends_on_may_be_of_anything() -> None:
    p = Program()
    p.load(A, w=8, dst_c_stride_low=16, dst_n_stride=16, dst_h_stride=16)
    copied = p.copy(B, A, wait=1)  # 16 wide, of which 8 were loaded
    p.store(B, wait=copied, w=8, src_c_stride_low=16, src_n_stride=16, src_h_stride=16)
    assert found(p) == []


def test_xor_of_a_tensor_with_itself_reads_nothing() -> None:
    p = Program()
    p.store(A, wait=p.clear(A))
    assert found(p) == []


def test_what_is_left_of_an_overwritten_tensor_is_a_torn_read() -> None:
    p = Program()
    p.load(A)
    p.store(A, at=0x2000)
    p.load(A + 8, at=0x400, w=8)
    p.store(A, at=0x3000)
    assert found(p) == [(Kind.TORN, (3, 0))]


def test_a_write_that_is_overwritten_before_any_read_is_lost() -> None:
    p = Program()
    p.load(A)
    p.load(A, at=0x400)
    p.store(A)
    assert found(p) == [(Kind.LOST, (1, 0))]


def test_a_lost_write_is_a_mistake_where_what_lies_over_it_is_read_twice_or_as_another_tensor() -> None:
    p = Program()
    p.load(A)
    p.load(A, at=0x400)
    p.store(A)
    p.store(A, at=0x2000)
    assert found(p) == [(Kind.MISTAKEN, (1, 0))]
    p = Program()
    p.load(A)
    p.load(A, at=0x400, w=2 * W)
    p.store(A)
    assert found(p) == [(Kind.MISTAKEN, (1, 0))]


def test_a_result_that_comes_too_late_for_its_reader_is_a_mistake() -> None:
    p = Program()
    copied = p.copy(B, A, wait=p.load(A))
    p.store(B, wait=copied)
    p.store(B, at=0x2000)  # meant for the copy behind it
    p.copy(B, A, wait=3)
    assert found(p) == [(Kind.MISTAKEN, (4,))]


def test_a_result_that_nothing_reads_is_a_note() -> None:
    p = pipeline()
    p.load(C, at=0x400)
    (finding,) = check(p.cmdbuf)
    assert (finding.kind, finding.severity) == (Kind.UNUSED, "note")


def test_elements_of_another_size_than_was_written_are_found() -> None:
    p = Program()
    p.load(A, w=8, fmt=2)
    p.store(B, wait=p.arith(0, B, A, A, wait=1))
    assert (Kind.TYPE, (1, 0)) in found(p)


def test_a_result_may_take_its_operands_place_but_not_lie_askew_over_it() -> None:
    p = Program()
    p.load(A, w=32)
    p.store(A, wait=p.arith(0, A, A, A, wait=1))
    assert found(p) == []
    p = Program()
    p.load(A, w=32)
    p.store(A + 4, wait=p.copy(A + 4, A, wait=1))
    assert (Kind.OVERLAP, (1,)) in found(p)


def test_a_dma_copy_may_spread_an_element_from_where_it_lies_but_not_smear() -> None:
    p = Program()
    p.load(A, w=1)
    p.move(A, A, w=1, src_h=16, src_h_stride=0, dst_h=16, dst_h_stride=1)
    p.store(A)
    assert found(p) == []
    p = Program()
    p.load(A, w=32)
    p.move(A, A + 1)
    p.store(A + 1)
    assert (Kind.OVERLAP, (1,)) in found(p)


@pytest.mark.parametrize(
    ("window", "out", "is_safe"),
    [
        ({}, (4, 4), True),
        ({"opd1_h": 2, "opd1_w": 2, "conv_op_y_str": 2, "conv_op_x_str": 2}, (2, 2), True),
        ({"opd1_h": 2, "opd1_w": 2}, (3, 3), True),  # an element is read for the last time where it is overwritten
        ({"opd1_h": 3, "opd1_w": 3, **dict.fromkeys(PADS, 1)}, (4, 4), False),
        ({"opd1_w": 2, "conv_opd0_lf_pad": 1}, (4, 4), False),
    ],
    ids=("1x1", "2x2 by 2", "2x2", "3x3 padded", "1x2 padded"),
)
def test_pooling_in_place_is_safe_where_no_later_element_reads_what_was_overwritten(window, out, is_safe) -> None:  # type: ignore[no-untyped-def]
    p = Program()
    p.load(A)
    p.store(A, wait=p.pool(A, A, (4, 4), out, wait=1, **window), w=out[0] * out[1])
    assert found(p) == ([] if is_safe else [(Kind.OVERLAP, (1,))])
    sums = Program()
    sums.load(A)
    sums.store(
        A, wait=sums.pool(A, A, (4, 4), out, wait=1, tsk_eu_typ=1, opt_opd1_const=1, **window), w=out[0] * out[1]
    )
    assert found(sums) == found(p)


WHOLE = Area("memory", 0, 0, 0x2000)
INPUT = Area("input x", 0, 0, 8 * 16, is_set=True)
OUTPUT = Area("output y", 0, 0x1000, 8 * 16, is_kept=True)


def test_gmem_is_fine_where_inputs_are_loaded_and_outputs_stored() -> None:
    assert found(pipeline(), WHOLE, INPUT, OUTPUT) == []


@pytest.mark.parametrize(
    ("areas", "kind", "commands"),
    [
        ((Area("memory", 0, 0, 0x1001), INPUT, OUTPUT), Kind.OUT_OF_RANGE, (2,)),
        ((WHOLE, OUTPUT), Kind.UNINITIALISED, (0,)),
        ((WHOLE, Area("half of x", 0, 0, 64, is_set=True), OUTPUT), Kind.PARTLY_UNSET, (0,)),
        ((WHOLE, INPUT), Kind.UNREAD, (2,)),
        ((WHOLE, INPUT, OUTPUT, Area("table", 0, 0x1010, 8, is_writable=False)), Kind.READ_ONLY, (2,)),
        ((WHOLE, INPUT, OUTPUT, Area("weight", 0, 0x800, 16, is_whole=True)), Kind.UNREAD, ()),
        ((WHOLE, INPUT, OUTPUT, Area("input z", 0, 0x800, 16, is_set=True)), Kind.UNREAD, ()),
    ],
)
def test_gmem_rules(areas: tuple[Area, ...], kind: Kind, commands: tuple[int, ...]) -> None:
    size = 0x1000 + 8 * 16 if kind == Kind.OUT_OF_RANGE else 0
    areas = tuple(area for area in areas if not (size and area.name == "output y"))
    assert (kind, commands) in found(pipeline(), *areas)


def test_memory_that_no_command_tells_apart_costs_nothing_to_follow() -> None:
    huge = Area("temporary", 2, 0, 1 << 39, is_set=True)
    assert found(pipeline(), WHOLE, INPUT, OUTPUT, huge) == [(Kind.UNREAD, ())]


def test_more_separate_runs_in_gmem_than_are_followed_are_refused() -> None:
    regions = [Region(0, start, (15, 512, 512), (1 << 22, 1 << 12, 8), 1) for start in range(3)]
    with pytest.raises(NpusimError, match="11,796,480 separate runs of bytes, but check follows at most 10,000,000"):
        Cells(1 << 27).cut(regions)


def test_a_store_cut_short_is_an_error_where_an_output_or_a_later_load_lacks_the_rest() -> None:
    p = pipeline()
    p.commands.pop()
    p.store(B, wait=1, src_c=4, dst_c=4)
    assert (Kind.UNSTORED, ()) in found(p, WHOLE, INPUT, OUTPUT)
    temporary = Area("temporary", 0, 0x1800, 8 * W, is_stored=True)
    for before in ((), (1,)):  # into fresh memory, or over a tensor that has been read
        p = Program()
        copied = p.copy(B, A, wait=p.load(A))
        for _ in before:
            p.store(B, at=0x1800, wait=copied)
            p.load(C, at=0x1800)
            p.store(C, at=0x1000)
        p.store(B, at=0x1800, wait=copied, src_c=4, dst_c=4)
        p.load(C, at=0x1800)
        p.store(C, at=0x1000)
        last = p.num_tiu + p.num_tdma - 2
        kinds = dict(found(p, WHOLE, INPUT, OUTPUT, temporary))
        assert kinds[Kind.TORN if before else Kind.UNINITIALISED] == (last,)


def test_a_load_that_goes_on_behind_its_tensor_is_a_warning() -> None:
    short = Area("input x", 0, 0, 4 * W, is_set=True)
    assert (Kind.PARTLY_UNSET, (0,)) in found(pipeline(), WHOLE, short, OUTPUT)


def test_a_weight_that_is_never_loaded_is_an_error_where_a_command_reads_another_in_its_place() -> None:
    weight = Area("kernel", 0, 0x800, 8 * W, is_set=True, is_writable=False, is_whole=True)
    p = pipeline()
    assert (Kind.UNREAD, ()) in found(p, WHOLE, INPUT, OUTPUT, weight)
    q = Program()
    copied = q.copy(B, A, wait=q.load(A))
    q.copy(C, A)  # behind a load of the kernel that is left out
    q.store(B, at=0x1800, wait=copied)
    q.store(C, wait=copied + 1)
    assert (Kind.MISSING, (2, 0)) in found(q, WHOLE, INPUT, OUTPUT, weight)


def test_a_load_that_converts_elements_of_another_size_than_were_stored_is_found() -> None:
    weight = Area("kernel", 0, 0x800, 16 * W, is_set=True, is_writable=False, is_whole=True, element_bytes=2)
    p = Program()
    p.load(A, at=0x800, dst_fmt=2, **{"dst_n_stride": 256, "dst_c_stride_low": 32, "dst_h_stride": 32})
    p.store(A, wait=0, w=2 * W)
    assert (Kind.TYPE, (0,)) in found(p, WHOLE, OUTPUT, weight)


def test_an_output_whose_memory_is_used_again_is_a_warning() -> None:
    p = pipeline()
    p.store(B, at=0x1000)
    (finding,) = check(p.cmdbuf, (WHOLE, INPUT, OUTPUT))
    assert (finding.kind, finding.severity, finding.commands) == (Kind.OUTPUT_LOST, "warning", (2,))


def test_a_wait_for_an_id_that_never_comes_is_a_deadlock_that_shows_both_commands() -> None:
    p = Program()
    p.copy(B, A, wait=1)
    p.load(A, wait=1)
    (finding,) = check(p.cmdbuf)
    assert (finding.kind, finding.commands) == (Kind.DEADLOCK, (0, 1))
    assert "waits for TDMA id 1, but TDMA has done 0" in finding.message


def test_what_runs_in_front_of_a_deadlock_is_checked() -> None:
    p = Program()
    p.store(A)
    p.copy(B, A, wait=9)
    assert found(p) == [(Kind.UNINITIALISED, (0,)), (Kind.DEADLOCK, (1,))]


def test_waits_for_an_id_that_two_commands_have_or_none() -> None:
    p = Program()
    p.load(A, cmd_id=5)
    p.load(B, at=0x400, cmd_id=5)
    p.store(A, wait=p.maximum(A, A, B, wait=5), cmd_id=6)
    repeated, race = check(p.cmdbuf)
    assert (repeated.kind, repeated.severity, repeated.commands) == (Kind.ID_REPEATED, "error", (2, 0, 1))
    assert (race.kind, race.commands) == (Kind.RACE, (2, 1))
    p = Program()
    p.load(A, cmd_id=7)
    p.store(A, wait=p.arith(0, A, A, A, wait=5), cmd_id=8)
    (finding,) = check(p.cmdbuf)
    assert (finding.kind, finding.severity, finding.commands) == (Kind.ID_GAP, "warning", (1, 0))


def test_an_id_that_repeats_is_no_fault_where_nothing_waits_for_it() -> None:
    p = Program()
    p.load(A, cmd_id=1)
    p.load(B, at=0x400, cmd_id=1)
    p.load(B, at=0x500, cmd_id=2)
    p.store(A, wait=p.maximum(A, A, B, wait=2), cmd_id=3)
    assert Kind.ID_REPEATED not in {kind for kind, _ in found(p)}


@pytest.mark.parametrize("programs", [2, 3])
def test_nothing_is_found_in_programs_one_behind_the_other(programs: int) -> None:
    """The ids of each start over; TIU ids are 1, 1, ... and so do not even fall."""
    p = Program()
    for _ in range(programs):
        p.load(A, cmd_id=1)
        p.arith(0, A, A, A, wait=1, cmd_id_tpu=1)
        p.store(A, wait=1, cmd_id=2)
    assert check(p.cmdbuf) == []


def test_a_command_that_the_chip_refuses_is_a_finding_and_the_rest_is_still_checked() -> None:
    p = pipeline(store_waits=False)
    p.load(0x7FF8, at=0x400)
    kinds = found(p)
    assert kinds == [(Kind.RACE, (2, 1)), (Kind.ILLEGAL, (3,))]


def test_segments_of_one_job_share_lmem() -> None:
    first, second = Program(), Program()
    first.load(A)
    second.store(A)
    assert [f.kind for f in check([first.cmdbuf, second.cmdbuf])] == [Kind.UNUSED]
    assert [f.kind for f in check(second.cmdbuf)] == [Kind.UNINITIALISED]


def test_nothing_is_found_in_no_commands() -> None:
    assert check([]) == []
    assert check(Program().cmdbuf) == []


def test_updating_a_part_of_a_tensor_in_place_tears_nothing() -> None:
    p = Program()
    p.load(A, w=32)
    p.maximum(A, A, A + 16, wait=1)
    p.store(A, wait=1, w=32)
    assert found(p) == []


def test_what_is_read_for_a_result_that_nothing_needs_is_not_lost() -> None:
    p = Program()
    p.load(A)
    p.load(B, at=0x400, wait=p.copy(B, A, wait=1))
    p.store(B)
    p.load(A, at=0x800)
    p.store(A, at=0x2000)
    assert [kind for kind, _ in found(p)] == [Kind.LOST]  # of the copy; what it copied was read


def test_what_an_overwritten_result_was_made_of_does_not_matter() -> None:
    p = Program()
    p.load(B, wait=p.copy(B, A))
    p.store(B)
    assert found(p) == [(Kind.LOST, (1, 0))]


def test_operands_that_must_differ_may_not_lie_at_one_place() -> None:
    p = Program()
    p.load(A)
    p.store(B, wait=p.maximum(B, A, A, wait=1))
    assert found(p) == [(Kind.ONE_PLACE, (1,))]
    p = Program()
    p.load(A)
    p.move(A, A)
    p.store(A)
    assert found(p) == [(Kind.ONE_PLACE, (1,))]


def test_a_square_may_take_one_tensor_twice() -> None:
    p = Program()
    p.load(A)
    p.store(B, wait=p.arith(0, B, A, A, wait=1))
    assert found(p) == []


def test_every_kind_is_explained_and_stands_with_its_severity_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "check.md").read_text()
    assert set(MEANING) == set(Kind)
    assert all(f"| {kind.value} | {kind.severity.value} |" in page for kind in Kind)
