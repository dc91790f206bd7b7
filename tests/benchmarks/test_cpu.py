"""How benchmarks take CPU time."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from benchmarks.claim import CannotRun
from benchmarks.cpu import Side, take_turns, timed
from benchmarks.support.memory import peak_bytes


def test_sides_take_turns_and_the_first_turn_does_not_count() -> None:
    order: list[str] = []

    def timer(name: str, seconds: list[float]) -> Callable[[], float]:
        def take() -> float:
            order.append(name)
            return seconds.pop(0)

        return take

    turns = take_turns({"a": timer("a", [9, 1, 2, 3]), "b": timer("b", [9, 10, 40, 20])}, 3)
    assert order == ["a", "b"] * 4
    assert turns.median("a") == 2 and turns.median("b") == 20 and turns.ratio("b", "a") == 10


def test_work_takes_cpu_time() -> None:
    assert timed(lambda: sum(range(1_000_000)))() > 0


def answers(number: int) -> dict[str, Callable[[], int]]:
    return {"number": lambda: number, "process": os.getpid, "end": lambda: os._exit(1)}


def peaks() -> dict[str, Callable[[], int]]:
    return {"peak": peak_bytes}


def test_a_side_works_in_a_process_of_its_own() -> None:
    with Side(answers, 7) as side:
        assert side.value("number") == 7
        assert side.value("process") != os.getpid()
        assert side.timer("number")() >= 0


def test_a_side_that_ends_is_trouble_and_not_a_hang() -> None:
    with Side(answers, 7) as side, pytest.raises(CannotRun, match="answers ended"):
        side.value("end")


def test_peak_memory_is_that_of_the_process_alone() -> None:
    fill = bytearray(b"x" * 200_000_000)
    with Side(peaks) as side:
        assert side.value("peak") < len(fill) <= peak_bytes()
