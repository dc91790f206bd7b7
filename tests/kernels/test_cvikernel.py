"""KernelBuilder makes the bytes that the vendor's library makes of the same calls, ids and waits included."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.kernels.cvikernel_case import ours, theirs

RECORD = json.loads((Path(__file__).parents[2] / "golden" / "data" / "kernels.json").read_text())
CHIPS = ("cv180x", "cv181x")


@pytest.mark.parametrize("chip", CHIPS)
def test_calls_make_the_command_buffer_that_cvikernel_made(chip: str) -> None:
    assert hashlib.sha256(ours(chip)[0]).hexdigest() == RECORD[f"{chip} cvikernel"]


@pytest.mark.skipif("CVI_LIB" not in os.environ, reason="CVI_LIB does not name the vendor's libraries")
@pytest.mark.parametrize("chip", CHIPS)
def test_calls_make_the_command_buffer_that_cvikernel_makes(chip: str) -> None:
    data, calls = ours(chip)
    assert theirs(chip, calls) == data
