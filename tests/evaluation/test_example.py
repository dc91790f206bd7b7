"""The example of the room's docstring."""

from __future__ import annotations

import doctest

import npusim.evaluation


def test_the_example_prints_what_it_says() -> None:
    failed, attempted = doctest.testmod(npusim.evaluation)
    assert attempted and not failed
