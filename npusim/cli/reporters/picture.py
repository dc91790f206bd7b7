"""Pictures that look the same everywhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any


def picture(draw: Callable[[], Any], kind: str, dpi: int) -> bytes:
    """The matplotlib Figure that `draw` makes, in the format `kind`, such as "png".

    It has matplotlib's own colours on opaque white, whatever the user's matplotlibrc says, so it is legible on a dark
    page too."""
    from matplotlib import style

    with style.context("default"):
        figure, out = draw(), io.BytesIO()
        figure.savefig(out, format=kind, dpi=dpi)
    return out.getvalue()
