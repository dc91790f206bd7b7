"""Compiled kernels give the bits of the functions that they stand for. Without the extra `fast` there are none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics import accumulate, backend, bf16, bf16_arith, channels, requant, streamed, windows
from npusim.numerics.toward_zero import rounding_toward_zero

try:
    from npusim.numerics.compiled import KERNELS
except ImportError:
    KERNELS = {}
REFERENCES = {
    function.__name__: function.__wrapped__  # type: ignore[attr-defined]
    for function in (
        accumulate.dot_patterns, bf16.from_float, bf16.to_float, channels.quantize_channels, streamed.dot_streamed,
        windows.add_taps, windows.add_taps_exactly, bf16_arith.products, bf16_arith.sums, bf16_arith.differences,
        bf16_arith.larger, bf16_arith.smaller, bf16_arith.accumulated,
    )
}  # fmt: skip
needs_numba = pytest.mark.skipif(not KERNELS, reason="Numba is not installed")


@pytest.fixture
def as_before() -> Iterator[None]:
    before = backend.backend_in_use()
    yield
    backend.use_backend(before)


def patterns(rng: np.random.Generator, spread: int, *shape: int) -> np.ndarray:
    """bf16 of either sign around 1, `spread` binary orders wide, zeros and denormals among them."""
    exponents = rng.integers(max(0, 127 - spread), min(256, 128 + spread), shape)
    found = rng.integers(0, 2, shape) << 15 | exponents << 7 | rng.integers(0, 128, shape)
    return np.where(rng.random(shape) < 0.1, found & 0x807F, found).astype(np.uint16)


def same(name: str, *args: object, **more: object) -> None:
    """The compiled kernel declines, or gives the reference's bits."""
    copies = [arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args]
    found = KERNELS[name](*copies, **more)
    if found is not backend.DECLINED:
        wanted = REFERENCES[name](*args, **more)
        assert found.shape == wanted.shape and found.astype(wanted.dtype).tobytes() == wanted.tobytes()


@needs_numba
def test_every_kernel_stands_for_a_marked_function() -> None:
    assert set(KERNELS) == set(REFERENCES)


@needs_numba
@pytest.mark.parametrize("name", ["products", "sums", "differences", "larger", "smaller", "accumulated"])
@given(seed=st.integers(0, 1 << 32), spread=st.sampled_from([3, 64, 128]), is_constant=st.booleans())
def test_elementwise_arithmetic(name: str, seed: int, spread: int, is_constant: bool) -> None:
    """Of operands whose products and sums overflow and vanish, too; one may be a constant."""
    rng = np.random.default_rng(seed)
    shape = (2, 3, 1, 50)
    operands = [patterns(rng, spread, *shape) for _ in range(3 if name == "accumulated" else 2)]
    if is_constant:
        operands[-1] = operands[-1][:1, :1, :1, :1]
    same(name, *operands)
    assert KERNELS[name](*operands) is not backend.DECLINED


@needs_numba
@given(st.integers(0, 1 << 32), st.sampled_from([3, 30, 128]), st.integers(1, 9), st.integers(1, 70), st.booleans())
def test_products_of_patterns(seed: int, spread: int, rows: int, columns: int, begun: bool) -> None:
    rng = np.random.default_rng(seed)
    start = np.nan_to_num(bf16.to_float(patterns(rng, spread, rows, columns))) if begun else None
    right = patterns(rng, spread, columns, 33).T
    same("dot_patterns", patterns(rng, spread, rows, 33), right, start)


@needs_numba
def test_every_pattern_is_read_alike() -> None:
    same("to_float", np.arange(1 << 16, dtype=np.uint16).reshape(256, 256).T)


@needs_numba
@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=40))
def test_any_float32_is_written_alike(bits: list[int]) -> None:
    same("from_float", np.array(bits, np.uint32).view(np.float32))
    edges = np.array(bits, np.uint32) & 0x80000000 | np.uint32(0x7F7F7FF0) + (np.array(bits, np.uint32) & 31)
    same("from_float", edges.view(np.float32))


@needs_numba
@given(st.integers(0, 1 << 32), st.sampled_from([8, 20, 31]), st.booleans(), st.booleans())
def test_requantisation_by_channel(seed: int, bits: int, signed: bool, relu: bool) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(1 << bits), 1 << bits, (2, 5, 3, 7)).astype(np.float32 if bits < 24 else np.int32)
    records = rng.integers(0, 256, (1, 5, 1, int(rng.choice([5, 9]))), np.uint8)
    low, high = requant.limits(8, signed)
    same("quantize_channels", sums, records, int(rng.choice([6, 8])), max(low, 0) if relu else low, high)


@needs_numba
@given(st.integers(0, 1 << 32), st.integers(1, 9), st.integers(1, 9), st.integers(1, 2), st.booleans())
def test_sums_of_taps(seed: int, channels: int, taps: int, images: int, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    length, firsts = int(rng.integers(1, 300)), tuple(rng.integers(0, 50, taps).tolist())
    if exact:
        planes, weights = (
            rng.integers(-128, 128, s).astype(np.float32) for s in ((images, channels, 349), (channels, taps))
        )
        same("add_taps_exactly", planes, weights, firsts, length)
        same("add_taps", planes.astype(np.int32), weights.astype(np.int32), firsts, length)
        return
    planes = bf16.to_float(patterns(rng, 20, images, channels, 349))
    with rounding_toward_zero():
        same("add_taps", planes, bf16.to_float(patterns(rng, 20, channels, taps)), firsts, length)


def test_a_backend_that_is_not_there_is_refused_in_a_sentence(as_before: None) -> None:
    with pytest.raises(ValueError, match="backend 'cuda' is not known; known are auto, numpy, numba"):
        backend.use_backend("cuda")
    if not KERNELS:
        with pytest.raises(ValueError, match=r"needs Numba, which is not installed; pip install 'npusim\[fast\]'"):
            backend.use_backend("numba")


def test_compiled_code_is_taken_up_once_it_pays(monkeypatch: pytest.MonkeyPatch, as_before: None) -> None:
    """And not at all where the environment forbids it, or Numba is not installed."""
    backend.use_backend("numpy")
    monkeypatch.setenv("NPUSIM_BACKEND", "auto")
    clock = iter([0.0, backend.PAYS_AFTER - 1, 10.0, 10 + 2, 20.0])
    monkeypatch.setattr(backend, "perf_counter", lambda: next(clock))
    chooser = backend._Chooser()
    for _ in range(2):
        chooser.after_run(chooser.before_run())
        assert backend.backend_in_use() == "numpy"
    chooser.before_run()
    assert backend.backend_in_use() == ("numba" if KERNELS else "numpy")


def test_a_backend_that_cannot_be_had_is_refused_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUSIM_BACKEND", "cuda")
    chooser = backend._Chooser()
    for _ in range(2):
        with pytest.raises(ValueError, match="backend 'cuda' is not known"):
            chooser.before_run()


def test_a_backend_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch, as_before: None) -> None:
    monkeypatch.setenv("NPUSIM_BACKEND", "auto")
    monkeypatch.setattr(backend, "chooser", backend._Chooser())
    backend.use_backend("numpy")
    backend.chooser.after_run(-backend.PAYS_AFTER)
    backend.chooser.before_run()
    assert backend.backend_in_use() == "numpy"
