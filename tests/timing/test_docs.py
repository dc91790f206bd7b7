"""docs/timing.md shows the constants as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from npusim.timing import constants

PAGE = (Path(__file__).parents[2] / "docs" / "timing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row", constants(), ids=lambda row: row[0])
def test_page_shows_the_constant_as_it_is(row: tuple[str, float, str, str, str, str]) -> None:
    name, value, unit, kind, _, how = row
    line = next((line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")), "")
    assert f"| {value:g} {unit} | {kind} |" in line and how in line


def test_page_names_no_constant_that_does_not_exist() -> None:
    named = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    assert named == {row[0] for row in constants()}
