"""Fitting mean_pages' projections to a model, and who may use them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import reference_model
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies.projection import ModelProjection, projection_bytes, read_file
from kv.sequence.paged_kv import PagedKV
from npusim.cli import main
from npusim.errors import UsageError
from npusim.evaluation.calibration import SINKS, Moments, MomentState, calibrate
from reference_model.model import Model

QUICK = ["eval", "--context", "96", "--samples", "1", "--budget", "16"]


@pytest.fixture(scope="module")
def model() -> Model:
    return reference_model.load("builtin")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(f"And the {number} kings of the valley came to the river." for number in range(99)))
    return path


@pytest.fixture(scope="module")
def keys(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "builtin.keys"
    assert main(["calibrate", "--text", str(text), "--tokens", "512", "-o", str(path), "--json", f"{path}.json"]) == 0
    return path


def test_moments_are_those_of_the_queries_and_keys_however_they_come() -> None:
    geometry = Geometry(1, 4, 2, 8)
    rng = np.random.default_rng(0)
    keys, q = rng.standard_normal((40, 2, 8), np.float32), rng.standard_normal((40, 4, 8), np.float32)
    states = []
    for cuts in ([0, 40], [0, 2, 7, 40]):
        store = PagedKV(PagedCache(geometry, 8), "a", Moments())
        for start, stop in itertools.pairwise(cuts):
            store.append(0, keys[start:stop], keys[start:stop])
            store.select(0, q[start:stop])
        states.append(store.state(0))
    for state in states:
        assert isinstance(state, MomentState)
        for head in range(2):
            queries = q[:, 2 * head : 2 * head + 2].reshape(-1, 8).astype(np.float64)
            np.testing.assert_allclose(state.query_moment[head], queries.T @ queries / 80, atol=1e-6)
            np.testing.assert_allclose(
                state.key_covariance[head], np.cov(keys[SINKS:, head].T.astype(np.float64), bias=True), atol=1e-6
            )


def test_a_file_serves_the_model_that_it_was_made_for(keys: Path, tmp_path: Path) -> None:
    lost = json.loads(Path(f"{keys}.json").read_text())["lost"]
    assert lost["32"] < 1e-6 < lost["16"] < lost["8"] < 1
    rows = tmp_path / "rows.json"
    policies = ("mean_pages", f"mean_pages:rank=16:calibration={keys}")
    assert main([*QUICK, "--policy", ",".join(policies), "--json", str(rows)]) == 0
    plain, ranked = json.loads(rows.read_text())
    assert ranked["policy"] == policies[1] and ranked["page_size"] == 8
    assert ranked["metadata_bytes_per_step"] != plain["metadata_bytes_per_step"]


def test_a_file_of_another_model_is_refused_before_anything_is_computed(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = read_file(str(keys))
    other = tmp_path / "other.keys"
    other.write_bytes(projection_bytes(ModelProjection("another model", ours.query, ours.key)))
    assert main([*QUICK, "--policy", f"mean_pages:rank=16:calibration={other}"]) == 2
    error = capsys.readouterr().err
    assert "other.keys was made for another model, this one is " in error and "Traceback" not in error
    other.write_bytes(b"no calibration")
    assert main([*QUICK, "--policy", f"mean_pages:rank=16:calibration={other}"]) == 2
    assert "other.keys is damaged, or no calibration" in capsys.readouterr().err


def test_a_text_that_is_too_short_or_too_long_is_refused(model: Model) -> None:
    for count in (10, model.config.context_length + 1):
        with pytest.raises(UsageError, match=f"a text of {count} tokens: give from 256 to"):
            calibrate(model, [1] * count)
