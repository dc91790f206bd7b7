"""npusim refuses convolutions, poolings and matrix multiplications on which the vendor's functional model asserts."""

from __future__ import annotations

import pytest

from npusim import IllegalInstruction, Machine
from npusim.chip import CV181X, CV183X
from npusim.program.cmdbuf import build_cmdbuf
from tests.support.case import Case, Outcome, run_npusim, tiu

SHAPES = dict(opd0_c=4, opd0_h=5, opd0_w=6, res0_c=4, res0_h=3, res0_w=4, opd1_h=3, opd1_w=3, res0_addr=0x4000)
SIGNS = dict(opt_opd0_sign=1, opt_res0_sign=1)
LEGAL: dict[str, dict[str, int]] = {
    "conv": dict(SHAPES, **SIGNS, tsk_typ=0, opd1_n=4, opd1_c=4, short_opd1_str=1, opd1_addr=0x2000),
    "depthwise": dict(SHAPES, **SIGNS, tsk_typ=1, tsk_eu_typ=2, opd1_c=4, opd1_addr=0x2000),
    "max_pool": dict(SHAPES, **SIGNS, tsk_typ=1, tsk_eu_typ=0, tsk_opd_num=1),
    "avg_pool": dict(SHAPES, **SIGNS, tsk_typ=1, tsk_eu_typ=1, opt_opd1_const=1, opd1_addr=3, opt_opd1_sign=0),
    "fc": dict(SIGNS, tsk_typ=2, res0_w=4, opd0_w=3, opd1_w=3, opd1_n=3, opd1_addr=0x2000, res0_addr=0x4000),
}
"""A legal descriptor of each kind."""
BIAS = dict(tsk_opd_num=3, opt_opd2_seg=0, opd2_c=4, short_opd2_str=2, opd2_addr=0x3000)

REFUSED: list[tuple[str, dict[str, int], str]] = [
    *((kind, dict(opt_shift_typ=0, opt_res_shift=3), "opt_shift_typ is 0") for kind in ("conv", "avg_pool", "fc")),
    *((kind, dict(opt_res0_sign=0), "opt_res0_sign is 0") for kind in LEGAL),
    *((kind, dict(opt_relu_typ=2), "opt_relu_typ is 2") for kind in LEGAL),
    *((kind, dict(opt_opd0_sign=0, opt_opd1_sign=0), "opt_res0_sign is 1") for kind in ("conv", "fc", "max_pool")),
    *((kind, dict(opt_opd0_seg=0), "opt_opd0_seg is 0") for kind in ("conv", "fc")),
    *(
        (kind, dict(short_res0_str=3), "(short_res0_str, short_opd0_str) is (3, 0)")
        for kind in ("depthwise", "max_pool")
    ),
    *((kind, dict(short_opd2_str=3), "neither may be 3") for kind in ("conv", "depthwise", "max_pool", "avg_pool")),
    *((kind, dict(conv_opd0_x_ins0_last=15), "at most 14") for kind in ("conv", "depthwise", "avg_pool")),
    *((kind, dict(conv_opd1_x_ins0=15), "at most 14") for kind in ("conv", "depthwise")),
    *((kind, dict(BIAS, opd2_c=3), "opd2 has shape (1, 3, 1, 1)") for kind in ("conv", "depthwise")),
    *((kind, dict(BIAS, opd2_b_str=0), "opd2_b_str is 0") for kind in ("conv", "depthwise")),
    ("conv", dict(short_opd1_str=0), "short_opd1_str is 0"),
    ("conv", dict(short_res0_str=1), "short_res0_str is 1"),
    ("conv", dict(BIAS, opd2_n=2), "opd2 has shape (2, 4, 1, 1)"),
    ("depthwise", dict(BIAS, opt_opd2_const=1), "opt_opd2_const is 1"),
    ("depthwise", dict(opt_opd1_sign=0), "opt_opd1_sign is 0"),
    ("max_pool", dict(opd_typ=1, opt_chl_quan=1), "opt_chl_quan is set with opd_typ 1"),
    ("conv", dict(double_conv=1, opd0_c=3, opd1_n=3), "opd0_c is 3"),
    ("depthwise", dict(opt_opd1_const=1, opd1_c=1), "opd1_c is 1"),
    ("depthwise", dict(res0_n_str=17), "res0_n_str is 17"),
    ("depthwise", dict(opt_opd0_const=1), "opt_opd0_const is 1"),
    ("max_pool", dict(res0_h=5), "res0 (h, w) is (5, 4)"),
    ("max_pool", dict(tsk_opd_num=2, opt_opd1_sign=0), "tsk_opd_num is 2"),
    ("avg_pool", dict(opt_rshift_typ=0), "opt_rshift_typ is 0"),
    ("fc", dict(res0_h=2), "res0_h is 2"),
    ("fc", dict(opt_opd0_const=1), "opt_opd0_const is 1"),
    ("fc", dict(opt_opd1_const=1), "opt_opd1_const is 1"),
    ("fc", dict(opt_opd2_seg=1), "opt_opd2_seg is 1"),
    ("fc", dict(BIAS, short_opd2_str=0, opt_opd2_const=1), "opt_opd2_const is 1"),
    ("fc", dict(BIAS, short_opd2_str=0, opd2_b_str=8), "opd2_b_str is 8"),
    ("fc", dict(BIAS, short_opd2_str=0, opd2_c=3), "a bias has one element for each of 4 columns"),
]


def run(fields: dict[str, int]) -> None:
    Machine("cv181x").run_cmdbuf(build_cmdbuf(CV181X, [tiu(CV181X, **fields)]))


@pytest.mark.parametrize("kind", LEGAL)
def test_the_descriptor_that_each_refusal_starts_from_runs(kind: str) -> None:
    run(LEGAL[kind])


@pytest.mark.parametrize(("kind", "changed", "rule"), REFUSED, ids=[f"{kind} {rule}" for kind, _, rule in REFUSED])
def test_a_field_that_the_model_asserts_is_refused_by_name(kind: str, changed: dict[str, int], rule: str) -> None:
    with pytest.raises(IllegalInstruction) as refused:
        run(LEGAL[kind] | changed)
    assert rule in str(refused.value)


def outcome(kind: str, **fields: int) -> Outcome:
    return run_npusim(Case("cv181x", kind, [tiu(CV181X, **(LEGAL[kind] | fields))], lmem_seed=1))


def test_average_pooling_ignores_relu() -> None:
    assert outcome("avg_pool", opt_relu_typ=1) == outcome("avg_pool")


@pytest.mark.parametrize("quantised", [0, 1])
def test_a_depthwise_constant_is_unsigned_only_where_no_multipliers_requantise(quantised: int) -> None:
    constant = dict(opt_opd1_const=1, opd1_addr=200, opt_chl_quan=quantised, short_opd2_str=2, opd2_c=4)
    outcomes = [outcome("depthwise", **constant, opt_opd1_sign=sign) for sign in (1, 0)]
    assert (outcomes[0] == outcomes[1]) == bool(quantised)


@pytest.mark.parametrize("kind", ["conv", "depthwise", "fc"])
def test_what_multipliers_requantise_is_bytes_whatever_opd_typ_says(kind: str) -> None:
    quantised = dict(opt_chl_quan=1, short_opd2_str=0 if kind == "fc" else 2, opd2_c=4, opd2_addr=0x3000)
    assert outcome(kind, **quantised, opd_typ=1) == outcome(kind, **quantised)


@pytest.mark.parametrize("inserted", ["conv_opd0_x_ins0", "conv_opd0_y_ins0_last"])
def test_maximum_pooling_ignores_insertion(inserted: str) -> None:
    assert outcome("max_pool", **{inserted: 15}) == outcome("max_pool")


@pytest.mark.parametrize("name", ["opd0", "res0"])
def test_an_operand_without_elements_is_in_lmem_on_cv183x(name: str) -> None:
    shapes = {f"{operand}_n": 0 for operand in ("res0", "opd0", "opd1")}
    copy = dict(
        shapes, tsk_typ=3, tsk_eu_typ=10, tsk_opd_num=1, short_res0_str=3, short_opd0_str=3, short_opd1_str=3
    )  # fmt: skip
    size = CV183X.num_lanes * CV183X.lmem_bytes
    machine = Machine("cv183x")
    machine.run_cmdbuf(build_cmdbuf(CV183X, [tiu(CV183X, **copy, **{f"{name}_addr": size - 1})]))
    with pytest.raises(IllegalInstruction, match=f"{name} lies at"):
        machine.run_cmdbuf(build_cmdbuf(CV183X, [tiu(CV183X, **copy, **{f"{name}_addr": size})]))


def test_a_matrix_multiplication_is_no_lookup_on_cv183x() -> None:
    with pytest.raises(IllegalInstruction, match="tens_lookup is 1"):
        Machine("cv183x").run_cmdbuf(build_cmdbuf(CV183X, [tiu(CV183X, **LEGAL["fc"], tens_lookup=1)]))


@pytest.mark.parametrize("kind", ["conv", "depthwise", "avg_pool"])
def test_cv183x_inserts_15_elements(kind: str) -> None:
    """Compilers make transposed convolutions of stride 16 so; the other chips have 14 at most."""
    inserted = LEGAL[kind] | dict(conv_opd0_x_ins0_last=15, res0_w=19, res0_addr=0x6000)
    Machine("cv183x").run_cmdbuf(build_cmdbuf(CV183X, [tiu(CV183X, **inserted)]))
