"""Composed operations against float64, and what a kernel relies on."""

from __future__ import annotations

import numpy as np
import pytest

from reference_model.layers import rope_table, rotate
from reference_model.quant import ops
from reference_model.quant.arith import Patterns, floats, patterns
from reference_model.quant.fidelity import sqnr


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Patterns:
    return patterns(scale * np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("d", [64, 192, 576, 640])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_rms_norm_is_within_bf16_noise(d: int, scale: float) -> None:
    x, gain = normal(7, d, seed=1, scale=scale), np.random.default_rng(2).uniform(0.2, 3, d).astype(np.float32)
    near = floats(ops.rms_norm(x, *ops.rms_norm_constants(gain, 1e-5)))
    wide = floats(x).astype(np.float64)
    exact = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * gain
    assert sqnr(exact.astype(np.float32), near).min() > 44


def test_rope_turns_as_the_float_model_does() -> None:
    x = normal(6, 3, 32, seed=3)
    positions = np.array([0, 1, 7, 100, 1000, 2047])
    near = floats(ops.rope(x, *ops.rope_rows(positions, 32, 10_000.0)))
    exact = rotate(floats(x), *rope_table(positions, 32, 10_000.0), interleaved=False)
    assert sqnr(exact.reshape(6, -1), near.reshape(6, -1)).min() > 45
    np.testing.assert_array_equal(near[0], floats(x)[0])


def exact_attention(q: Patterns, k: Patterns, v: Patterns, visible: np.ndarray) -> np.ndarray:
    scores = floats(q).astype(np.float64) @ floats(k).T
    weights = np.where(visible, np.exp(scores - scores.max(-1, keepdims=True, where=visible, initial=-np.inf)), 0)
    return (weights / weights.sum(-1, keepdims=True)) @ floats(v)


def test_attention_is_within_bf16_noise() -> None:
    q, k, v = normal(6, 64, seed=4, scale=0.3), normal(160, 64, seed=5), normal(160, 64, seed=6)
    visible = np.broadcast_to(np.arange(160) < 151, (6, 160))
    near = floats(ops.attention(q, k, v, np.where(visible, ops.ZERO, ops.MASKED)))
    assert sqnr(exact_attention(q, k, v, visible).astype(np.float32), near).min() > 35


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_masked_page_anywhere_changes_no_bit(at: int) -> None:
    q, k, v = normal(3, 32, seed=7), normal(80, 32, seed=8), normal(80, 32, seed=9)
    mask = np.where(np.arange(80) < 70, ops.ZERO, ops.MASKED)[None]
    wider = [
        np.insert(side, np.full(16, 16 * at), rubbish, axis)
        for side, rubbish, axis in ((k, 0x4170, 0), (v, 0xC170, 0), (mask, ops.MASKED, 1))
    ]
    np.testing.assert_array_equal(ops.attention(q, *wider), ops.attention(q, k, v, mask))


def test_rows_of_a_softmax_add_up_to_one() -> None:
    weights = floats(ops.mul(*ops.softmax(normal(50, 256, seed=10, scale=4.0))))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=2.0**-6)


def test_boxes_hold_the_extremes_of_the_keys_and_bound_every_score() -> None:
    keys, q = normal(5, 16, 32, seed=11), normal(3, 32, seed=12)
    boxes = []
    for page in keys:
        box = page[0], page[0]
        for key in page[1:]:
            box = ops.box_update(box, key)
        boxes.append(box)
    largest, smallest = (np.stack(side, 1) for side in zip(*boxes, strict=True))
    np.testing.assert_array_equal(floats(largest), floats(keys).max(1).T)
    np.testing.assert_array_equal(floats(smallest), floats(keys).min(1).T)
    scores = ops.page_scores(q, largest, smallest)
    assert scores.dtype == np.float32
    dots = np.einsum("gd,psd->gps", floats(q).astype(np.float64), floats(keys))
    assert (scores >= dots.max(-1) - 1e-4).all()
