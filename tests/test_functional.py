"""Whole models, compiled by the vendor for four chips in int8 and bf16.

Every tensor equals what the vendor's functional model gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden import compare, read_archive
from npusim import CHIPS, Model

DATA = Path(__file__).parents[1] / "golden" / "data" / "functional"
MODELS = sorted(DATA.glob("*.cvimodel"))


def reference(path: Path) -> dict[str, np.ndarray]:
    return read_archive(path.with_name(path.stem + ".out.npz"))


def inputs(path: Path) -> dict[str, np.ndarray]:
    return read_archive(DATA / f"{path.stem.split('_')[0]}.in.npz")


def test_all_chips_and_formats_are_there() -> None:
    assert {p.stem.split("_", 1)[1] for p in MODELS} == {
        f"{chip.name}_{kind}" for chip in CHIPS for kind in ("int8", "bf16")
    }


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_every_tensor_equals_the_vendors(path: Path) -> None:
    outputs, wanted = Model(path).forward(inputs(path), all_tensors=True), reference(path)
    assert set(wanted) <= set(outputs)
    for name, array in wanted.items():
        assert outputs[name].tobytes() == array.tobytes(), (
            f"{name}: {compare({name: outputs[name]}, {name: array}).message}"
        )


@pytest.mark.parametrize("path", MODELS[::7], ids=lambda p: p.stem)
def test_a_second_run_of_the_same_model_gives_the_same(path: Path) -> None:
    model, given = Model(path), inputs(path)
    first = model.forward(given)
    again = model.forward(given)
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
