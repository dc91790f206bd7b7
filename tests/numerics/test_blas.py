"""NumPy's BLAS has one thread while this package computes, and afterwards as many as before."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npusim.chip import CHIPS
from npusim.execute import BoundProgram
from npusim.numerics.accumulate import dot_in_order, sums_in_order
from npusim.numerics.blas import _openblas, blas_build, one_blas_thread
from npusim.numerics.toward_zero import rounding_toward_zero
from npusim.state import State
from reference_model.kv_store import ContiguousKV, FloatArray
from reference_model.loading import load
from reference_model.quant.quantise import quantise

BLAS = _openblas()
BEFORE = 3
pytestmark = pytest.mark.skipif(BLAS is None, reason="NumPy has another BLAS than OpenBLAS here")


def blas_threads() -> int:
    assert BLAS is not None
    return BLAS.num_threads()


@pytest.fixture(autouse=True)
def several() -> Iterator[None]:
    assert BLAS is not None
    found = BLAS.num_threads()
    BLAS.set_num_threads(BEFORE)
    assert BLAS.num_threads() == BEFORE
    yield
    assert BLAS.num_threads() == BEFORE
    BLAS.set_num_threads(found)


def test_numpy_in_wheels_has_an_openblas_that_tells_its_build() -> None:
    assert blas_build().startswith("OpenBLAS ")


def test_the_number_is_put_back_behind_an_error_and_behind_the_outermost_block() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread:
        with one_blas_thread:
            pass
        assert blas_threads() == 1
        raise ZeroDivisionError
    assert blas_threads() == BEFORE


def test_the_number_is_put_back_when_the_last_of_overlapping_threads_leaves() -> None:
    both_inside, first_left = Barrier(2), Barrier(2)
    seen: list[int] = []

    def first() -> None:
        with one_blas_thread:
            both_inside.wait()
        first_left.wait()

    def last() -> None:
        with one_blas_thread:
            both_inside.wait()
            first_left.wait()
            seen.append(blas_threads())

    threads = [Thread(target=first), Thread(target=last)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] and blas_threads() == BEFORE


def test_a_program_runs_on_one_thread() -> None:
    seen: list[int] = []
    command: Any = SimpleNamespace(key=lambda: (), bind=lambda state: lambda: seen.append(blas_threads()))
    BoundProgram(State(CHIPS[0]), [command, command]).run()
    assert seen == [1, 1]


class Watched(ContiguousKV):
    """Notes how many threads BLAS has when a layer stores its keys."""

    seen: set[int]

    def append(self, layer: int, k: FloatArray, v: FloatArray) -> None:
        self.seen.add(blas_threads())
        super().append(layer, k, v)


@pytest.mark.parametrize("quantised", [False, True])
def test_a_language_model_runs_on_one_thread(quantised: bool) -> None:
    model = load("builtin")
    config = model.config
    kv = Watched(config.num_layers, config.num_kv_heads, config.head_dim, 4)
    kv.seen = set()
    (quantise(model, "bf16") if quantised else model).forward([1, 2, 3], kv)
    assert kv.seen == {1}


def test_sums_in_order_do_not_fall_into_the_loop_because_of_threads() -> None:
    rng = np.random.default_rng(1)
    left, right = (
        (rng.integers(-128, 128, shape) / 64).astype(np.float32) for shape in ((64, 300), (300, 256))
    )  # large enough that this BLAS would share them out
    sums_in_order.cache_clear()
    shared_out = dot_in_order(left, right, normal=True)
    with rounding_toward_zero():
        found = sums_in_order(64, 320, 256)
    sums_in_order.cache_clear()
    BLAS.set_num_threads(1)  # type: ignore[union-attr]
    with rounding_toward_zero():
        assert sums_in_order(64, 320, 256) == found
        assert dot_in_order(left, right, normal=True).tobytes() == shared_out.tobytes()
    BLAS.set_num_threads(BEFORE)  # type: ignore[union-attr]
