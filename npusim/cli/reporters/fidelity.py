"""How much accuracy a model loses by quantisation, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.cli.printing import Grid, Printable
from reference_model.quant.fidelity import Fidelity


def fidelity_renderables(results: Sequence[Fidelity]) -> list[Printable]:
    """The whole report: a table of precisions, then signal-to-noise ratios layer by layer."""
    first = results[0]
    return [
        f"{first.num_tokens:,} tokens; the float32 model's perplexity is {first.float_perplexity:.4f}",
        _summary(results),
        (
            "residual stream after each layer, dB of signal over noise (entire: the noise of all layers so far; "
            "single: of this layer alone)"
        ),
        _layers(results),
    ]


def _summary(results: Sequence[Fidelity]) -> Grid:
    numbers = ("perplexity", "loss %", "KL (nats)", "same argmax %", "logits SQNR (dB)")
    table = Grid("precision", *numbers, right=numbers)
    for result in results:
        table.add_row(
            result.precision, f"{result.perplexity:.4f}", f"{result.loss_percent:+.3f}", f"{result.kl:.5f}",
            f"{100 * result.argmax_agreement:.2f}", f"{result.logits_sqnr:.1f}",
        )  # fmt: skip
    return table


def _layers(results: Sequence[Fidelity]) -> Grid:
    numbers = [f"{result.precision} {kind}" for result in results for kind in ("entire", "single")]
    table = Grid("layer", *numbers, right=numbers)
    for rows in zip(*(result.layers for result in results), strict=True):
        table.add_row(str(rows[0].layer), *(f"{value:.1f}" for row in rows for value in (row.entire, row.single)))
    return table
