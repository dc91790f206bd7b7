"""A wrong layer on a target is found, and only that one."""

from __future__ import annotations

import numpy as np
import pytest

import reference_model
from reference_model import Model, ModelError
from reference_model.kv_store import FloatArray
from reference_model.quant.compare import compare_layers
from reference_model.quant.quantise import quantise
from reference_model.quant.streams import WholeModel
from reference_model.quant.twin import TwinModel

IDS = np.random.default_rng(0).integers(0, 1000, 40)
EQUAL = 150


@pytest.fixture(scope="module")
def model() -> Model:
    return reference_model.load("builtin")


@pytest.fixture(scope="module")
def twin(model: Model) -> TwinModel:
    return quantise(model, "int8")


@pytest.fixture(scope="module")
def states(twin: TwinModel) -> list[FloatArray]:
    return WholeModel(twin).read(IDS)[0]


def test_a_target_that_is_the_twin_has_no_error(twin: TwinModel, states: list[FloatArray]) -> None:
    assert [(error.entire, error.single) for error in compare_layers(twin, IDS, states)] == [(EQUAL, EQUAL)] * 4


def test_a_wrong_layer_shows_alone_in_single_and_from_there_on_in_entire(
    twin: TwinModel, states: list[FloatArray]
) -> None:
    kv, positions = twin.new_kv(), np.arange(40)
    wrong, x = [states[0]], twin.embed(IDS)
    for index in range(4):
        x = twin.layer(index, x, kv, positions, twin.ropes(positions))
        if index == 2:
            x = x + np.uint16(1)  # every number off by one unit in the last place
        wrong.append((x.astype(np.uint32) << 16).view(np.float32))
    errors = compare_layers(twin, IDS, wrong)
    assert [error.single == EQUAL for error in errors] == [True, True, False, True]
    assert [error.entire == EQUAL for error in errors] == [True, True, False, False]


def test_against_the_float_model_errors_are_those_of_the_precision(model: Model, states: list[FloatArray]) -> None:
    errors = compare_layers(model, IDS, states)
    assert all(20 < error.entire < 60 and 20 < error.single < 60 for error in errors)


def test_decode_steps_are_compared_with_the_cache_of_the_target(twin: TwinModel, states: list[FloatArray]) -> None:
    kv = twin.new_kv()
    twin.hidden(IDS[:37], kv)
    errors = compare_layers(twin, IDS, [state[37:] for state in states], kv)
    assert [(error.entire, error.single) for error in errors] == [(EQUAL, EQUAL)] * 4


def test_states_that_do_not_fit_are_refused(twin: TwinModel, states: list[FloatArray]) -> None:
    with pytest.raises(ModelError, match="give 5 of one shape"):
        compare_layers(twin, IDS, states[1:])
    with pytest.raises(ModelError, match="of width 192"):
        compare_layers(twin, IDS, [state[:, :100] for state in states])
    with pytest.raises(ModelError, match="not the 40 tokens"):
        compare_layers(twin, IDS, [state[37:] for state in states])
