"""The reprs of objects that users see: one line each, and a table where one helps."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import golden
import kv
import npusim
import reference_model
from kv import policies
from npusim.check import Finding, Findings, Kind
from npusim.kernels import Fmt, KernelBuilder, mg, tg
from npusim.program import Cmdbuf, parse_cmdbuf

MODEL = Path(__file__).parents[1] / "golden" / "data" / "functional" / "conv_cv181x_int8.cvimodel"
RACE = Finding(Kind.RACE, "command 3 <reads> what command 2 writes", (3, 2), ("a", "b"), "tpu_0")


def kernel() -> KernelBuilder:
    b = KernelBuilder("cv181x")
    x = b.lmem_alloc_tensor((1, 8, 1, 64), Fmt.BF16)
    b.tdma_g2l_tensor_copy(tg(0, x.shape, Fmt.BF16, label="x"), x)
    return b


def cmdbuf() -> Cmdbuf:
    program = kernel().build()
    return parse_cmdbuf(program.chip, program.cmdbuf)


def cache() -> kv.PagedCache:
    return kv.PagedCache(kv.Geometry(2, 4, 2, 8, 16), 64)


def sequence(budget: int | None = None) -> kv.PagedKV:
    store = kv.PagedKV(cache(), "chat", kv.policy_named("quest"), budget)
    for layer in range(2):
        store.append(layer, *np.ones((2, 20, 2, 8), np.float32))
    return store


def compared() -> golden.ComparisonResult:
    target = {"a": np.zeros(3, np.float32), "<b>": np.ones(3, np.float32), "c": np.zeros(4, np.float32)}
    reference = {"a": np.zeros(3, np.float32), "<b>": np.full(3, 2, np.float32), "c": np.zeros((2, 3), np.float32)}
    return golden.compare(target, reference, 0.5)


SHOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "model": (
        lambda: npusim.Model(MODEL),
        "<Model conv for cv181x: x (1, 3, 32, 32) FP32 -> 56_Gemm_f32 (1, 10, 1, 1) FP32, 61,440 bytes of GMEM>",
    ),
    "tensor": (lambda: npusim.Model(MODEL).inputs[0], "<TensorInfo x (1, 3, 32, 32) FP32>"),
    "machine": (
        lambda: npusim.Machine("cv180x", gmem_bytes=4096),
        "<Machine cv180x: 2 lanes of 32,768 bytes of LMEM, 4,096 bytes of GMEM>",
    ),
    "program file": (lambda: npusim.open_program(MODEL), "<ProgramFile conv_cv181x_int8.cvimodel for cv181x: "),
    "cmdbuf": (cmdbuf, "<Cmdbuf for cv181x: 0 TIU and 1 TDMA commands>"),
    "kernel": (
        lambda: kernel().build(),
        "<Program for cv181x: 0 TIU and 1 TDMA commands, 128 bytes of LMEM in a lane, labels x>",
    ),
    "global tensor": (
        lambda: tg(0x1000000, (1, 1, 1, 4), Fmt.I8),
        "Tg(addr=0x1000000, shape=(1, 1, 1, 4), fmt=Fmt.I8, stride=(4, 4, 4, 1), base_reg=0)",
    ),
    "global matrix": (
        lambda: mg(0x10, 2, 3, Fmt.BF16, label="w"),
        "Mg(addr=0x10, row=2, col=3, fmt=Fmt.BF16, stride=6, base_reg=0, label='w')",
    ),
    "finding": (lambda: RACE, "<error: race in tpu_0: command 3 <reads> what command 2 writes>"),
    "cache": (cache, "<PagedCache of float32: 0 of 64 pages of 16 tokens used, sequences: 0>"),
    "block manager": (lambda: cache().manager, "<BlockManager: 0 of 64 pages of 16 tokens used, sequences: 0>"),
    "sequence": (
        lambda: sequence(64),
        "<PagedKV 'chat': 20 tokens in 2 layers, Shared(base=Quest(), sharing=Sharing.KV_MAX), a budget of 64 tokens>",
    ),
    "sequence without a budget": (sequence, "<PagedKV 'chat': 20 tokens in 2 layers, Shared(base=Quest(), sharing="),
    "state": (lambda: sequence().state(1), "<SharedState of layer 1: 20 tokens>"),
    "selection": (
        lambda: sequence().select(0, np.ones((1, 4, 8), np.float32)),
        "<Selection: 20 slots for 2 heads of 8>",
    ),
    "language model": (
        lambda: reference_model.load("builtin"),
        "<Model: 1,771,200 parameters, 4 layers of 192, 6 query and 2 KV heads of 32, vocabulary 1,024, context 1,024>",
    ),
    "twin": (
        lambda: reference_model.quantise(reference_model.load("builtin"), "bf16"),
        "<TwinModel in bf16: 1,771,200 parameters, 4 layers of 192, ",
    ),
    "tokenizer": (lambda: reference_model.load("builtin").tokenizer, "<Tokenizer: 1,024 tokens, a text begins with "),
    "plain cache": (
        lambda: reference_model.load("builtin").new_kv(),
        "<ContiguousKV: 0 tokens, 4 layers, 2 KV heads of 32>",
    ),
    "comparison": (compared, "<ComparisonResult: 3 compared, 2 failed: 1 EQUAL, 1 NOT_EQUAL, 1 NOT_MATCH>"),
    "compared tensor": (
        lambda: compared()["<b>"],
        "<<b>: NOT_EQUAL, cosine 1.000000, Euclidean 0.333333, largest difference 1 at (0,)>",
    ),
    "unlike shapes": (lambda: compared()["c"], "<c: NOT_MATCH: target has shape (4,), reference (2, 3)>"),
    "divergence": (
        lambda: golden.first_divergence(compared(), ["a", "z", "<b>", "c"]),
        "<Divergence: <b> is NOT_EQUAL; a passed before it, 1 between them not compared>",
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_an_object_shows_itself_in_one_short_line(name: str) -> None:
    make, expected = SHOWN[name]
    text = repr(make())
    assert text.startswith(expected) and len(text) <= 160 and "\n" not in text
    assert text == expected or not expected.endswith(">")


@pytest.mark.parametrize("policy", kv.POLICIES, ids=lambda policy: policy.name)
def test_a_policy_shows_the_call_that_makes_it(policy: kv.Policy) -> None:
    names = {name: getattr(policies, name) for name in policies.__all__}
    assert eval(repr(policy), names) == policy


@pytest.mark.parametrize("fmt", Fmt)
def test_a_format_and_a_local_tensor_show_what_makes_them(fmt: Fmt) -> None:
    tensor = KernelBuilder("cv181x").lmem_alloc_tensor((1, 8, 1, 64), fmt)
    assert eval(repr(tensor), {"LocalTensor": type(tensor), "Fmt": Fmt}) == tensor
    assert isinstance(fmt, enum.Enum) and "addr=0x0" in repr(tensor)


def test_findings_show_a_line_each_and_none_says_so() -> None:
    assert repr(Findings([RACE, RACE])).splitlines() == [repr(RACE)] * 2
    assert repr(Findings()) == "<no findings>"


@pytest.mark.parametrize(
    ("make", "rows", "texts"),
    [
        (lambda: Findings([RACE]), 1, ["1 finding", "&lt;reads&gt;", "tpu_0", "3, 2"]),
        (compared, 3, ["3 compared, 2 failed", "&lt;b&gt;", "NOT_EQUAL", "2x3", "target has shape (4,)"]),
        (lambda: npusim.Model(MODEL), 6, ["input", "output", "56_Gemm_f32", "1x3x32x32"]),
    ],
    ids=["findings", "comparison", "model"],
)
def test_a_table_has_a_row_for_each_and_its_text_is_escaped(make: Any, rows: int, texts: list[str]) -> None:
    html = make()._repr_html_()
    assert html.count("<tr>") == rows + 1 and html.count("<table>") == html.count("</table>") == 1
    assert all(text in html for text in texts) and "<reads>" not in html and "<b>" not in html
