"""The example of the room's docstring."""

from __future__ import annotations

import doctest

import npusim.llm


def test_the_example_prints_what_it_says() -> None:
    failed, attempted = doctest.testmod(npusim.llm)
    assert attempted and not failed
