"""Finds where a program first goes wrong: the first tensor in program order that fails its comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from golden.errors import GoldenError
from golden.result import ComparisonResult, TensorResult


@dataclass(frozen=True)
class Divergence:
    """The first failing tensor, and the window in which the error arose.

    The window is from `last_good` through `not_compared` to `tensor`. `position` is the tensor's place in the order,
    from 0. `last_good` is the nearest earlier tensor that passed, if any. `not_compared` has the names between the two,
    which were not on both sides."""

    tensor: TensorResult
    position: int
    last_good: str | None
    not_compared: tuple[str, ...]

    def __repr__(self) -> str:
        after = "nothing passed before it" if self.last_good is None else f"{self.last_good} passed before it"
        between = f", {len(self.not_compared)} between them not compared" if self.not_compared else ""
        return f"<Divergence: {self.tensor.name} is {self.tensor.verdict}; {after}{between}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as in TensorResult.to_dict."""
        return {
            "tensor": self.tensor.to_dict(),
            "position": self.position,
            "last_good": self.last_good,
            "not_compared": list(self.not_compared),
        }


def first_divergence(result: ComparisonResult, order: Sequence[str]) -> Divergence | None:
    """The first tensor of `order` (names in program order) that failed in `result`, or None if none failed.

    The tolerance of the comparison decides what fails: with 0, the result is the first tensor that is not EQUAL. Raises
    GoldenError if a tensor that failed is not in the order, since it might be the first."""
    places = {name: place for place, name in reversed(list(enumerate(order)))}
    unplaced = [tensor.name for tensor in result.failed if tensor.name not in places]
    if unplaced:
        raise GoldenError(
            f"failing tensors {', '.join(unplaced)} are not in the given order: every compared tensor must be "
            "named in it"
        )
    if not result.failed:
        return None
    tensor = min(result.failed, key=lambda failed: places[failed.name])
    position = places[tensor.name]
    passed = {
        good.name: places[good.name] for good in result.tensors if good and places.get(good.name, position) < position
    }
    last_good = max(passed, key=passed.__getitem__, default=None)
    between = order[0 if last_good is None else passed[last_good] + 1 : position]
    return Divergence(tensor, position, last_good, tuple(dict.fromkeys(between)))
