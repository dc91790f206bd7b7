"""How one tensor differs from its reference, as a picture: the errors' histogram, and where they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden.error_map import ErrorMap
from golden.result import TensorResult
from npusim.cli.reporters.picture import picture
from npusim.cli.streams import visible

BINS = 101
DECADES = 4
"""Powers of ten that the colours show, below the largest error."""
EQUAL, UNMATCHABLE = "#e4e4e4", "#e6007a"


def draw_errors(tensor: TensorResult, found: ErrorMap, kind: str) -> bytes:
    """A picture in the format `kind`, such as "png"."""
    return picture(lambda: _figure(tensor, found), kind, dpi=120)


def _figure(tensor: TensorResult, found: ErrorMap) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    histogram, heat = figure.subplots(1, 2, width_ratios=(2, 3))
    figure.suptitle(f"{visible(tensor.name)}: {tensor.verdict}, {tensor.errors}", fontsize="medium", parse_math=False)
    _draw_histogram(histogram, found)
    _draw_map(figure, heat, found)
    return figure


def _draw_histogram(axes: Any, found: ErrorMap) -> None:
    """A histogram of the errors on matplotlib's Axes. How many elements are equal is only in the label."""
    differing = found.errors[found.errors != 0]
    largest = float(np.max(np.abs(differing), initial=0)) or 1.0
    axes.hist(differing, bins=np.linspace(-largest, largest, BINS + 1), color="#2f6db5")
    if differing.size:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    axes.set_xlabel("target - reference")
    equal = found.errors.size - differing.size
    axes.set_ylabel(f"elements that differ ({equal:,} of {found.num_channels * found.num_pixels:,} are equal)")


def _draw_map(figure: Any, axes: Any, found: ErrorMap) -> None:
    """The largest |error| of each channel and pixel, on a logarithmic scale of colours."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    known = found.largest[np.isfinite(found.largest) & (found.largest > 0)]
    top = float(known.max()) if known.size else 1.0
    bottom = max(float(known.min()) if known.size else 0.1, top / 10**DECADES)
    colours = colormaps["viridis_r"].with_extremes(bad=EQUAL, over=UNMATCHABLE)
    shown = np.ma.masked_equal(found.largest, 0)
    # Errors below the scale have its lightest colour, not the one for equal elements.
    scaled = np.ma.where(shown < bottom, bottom, shown)
    unmatchable = np.isinf(found.largest).any()
    image = axes.imshow(
        np.ma.where(np.isinf(scaled), 10 * top, scaled),
        aspect="auto",
        interpolation="nearest",
        cmap=colours,
        norm=LogNorm(bottom if bottom < top else top / 10, top),
        extent=(0, found.num_pixels, found.num_channels, 0),
    )
    axes.set_xlabel("pixel (h * w)")
    axes.set_ylabel("channel (n * c)")
    bar = figure.colorbar(image, ax=axes, extend="max" if unmatchable else "neither")
    bar.set_label("largest |error|; grey: equal" + ("; pink: NaN or infinity" if unmatchable else ""))
