"""The chips as parameters of a test."""

from __future__ import annotations

import pytest

from npusim.chip import CHIPS, CV180X

EACH_CHIP = [pytest.param(chip, id=chip.name, marks=() if chip is CV180X else (pytest.mark.slow,)) for chip in CHIPS]
"""Every chip. A quick run (-m "not slow") takes the smallest alone."""
