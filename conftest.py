"""How every test runs: with one BLAS thread, and with examples that differ from run to run.

A BLAS of several threads gives the same bits more slowly (docs/architecture.md), and test processes share the cores
already. No example has a time limit: how long one takes depends on the machine. A failure prints what draws it again,
and `--hypothesis-seed=N` makes a whole run repeatable. A quick run, `-m "not slow"`, draws fewer examples.
"""

from __future__ import annotations

import functools
import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported, which pytest does not do

settings.register_profile(
    "npusim", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, derandomize=False
)
settings.register_profile("quick", settings.get_profile("npusim"), max_examples=25)
settings.load_profile("npusim")


@pytest.fixture(autouse=True, scope="session")
def blas_is_tried_anew() -> None:
    """Tests neither believe what older runs found out about BLAS, nor leave anything in the user's cache folder."""
    from npusim.numerics import blas_trials

    blas_trials.trials.cache_clear()
    blas_trials.trials = functools.cache(lambda: blas_trials.Trials(None, ""))  # type: ignore[assignment]


@pytest.fixture(autouse=True, scope="session")
def one_backend() -> None:
    """NumPy, or what NPUSIM_BACKEND names, from the first call on."""
    from npusim.numerics.backend import use_backend

    os.environ.setdefault("NPUSIM_BACKEND", "numpy")
    use_backend(os.environ["NPUSIM_BACKEND"])


def pytest_configure(config: pytest.Config) -> None:
    """Takes the quick profile where slow tests are left out and no profile is asked for."""
    if config.option.markexpr == "not slow" and not config.getoption("--hypothesis-profile"):
        settings.load_profile("quick")
