"""The picture of a run: its loss by step."""

from __future__ import annotations

import json
from pathlib import Path

from reference_model.errors import ModelError
from reference_model.train.checkpoint import saving


def draw_loss_curve(log: Path, picture: Path) -> None:
    """Draws a run's log.jsonl.

    Raises ModelError when matplotlib is not installed, the log is not the log of a run, or the picture, a .png,
    cannot be written."""
    try:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ModelError("a loss curve needs matplotlib, which is not installed: pip install matplotlib") from None
    try:
        reports = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        steps, losses = ([float(report[name]) for report in reports] for name in ("step", "loss"))
        measured = [(report["step"], report["validation_loss"]) for report in reports]
        validated = [(float(step), float(loss)) for step, loss in measured if loss is not None]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"{log} is not the log of a training run ({error}): give the log.jsonl that a run wrote"
        ) from None
    with style.context("default"):  # on opaque white, whatever the user's matplotlibrc says
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="step", ylabel="loss, nats a token")
        axes.plot(steps, losses, linewidth=0.6, alpha=0.6, label="training batches")
        if validated:
            axes.plot(*zip(*validated, strict=True), "o-", label="held-out text")
        axes.legend()
        with saving(picture) as partial:
            figure.savefig(partial, format="png")
