"""A share of the benchmark's faults, in a program of each of three chips.

benchmarks/check.py seeds a thousand of them in all, and checks more sound programs."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.check import APART, MODELS, errors_of, seeded, sound_subjects
from npusim.check import check_model
from npusim.loader.cvimodel import load_cvimodel
from tests.support.faults import MAKERS

NAMES = ("conv_cv183x_int8", "mix_cv180x_int8", "step_cv182x_int8")
CHOSEN = [path for path in MODELS if path.stem in NAMES]


@pytest.mark.slow
def test_at_least_95_percent_of_seeded_faults_are_found() -> None:
    faults = [fault for fault in seeded(81, 3, CHOSEN, tries=100) if fault.kind != APART]
    assert Counter(fault.kind for fault in faults).keys() == set(MAKERS) - {APART}
    assert len(faults) > 75
    missed = [f"{fault.path.stem}: {fault.kind}: {fault.what}" for fault in faults if not _is_found(fault)]
    assert len(missed) <= 0.05 * len(faults), missed


@pytest.mark.slow
def test_no_sound_model_is_accused_of_an_error() -> None:
    subjects = list(sound_subjects(CHOSEN))
    assert len(subjects) == len(NAMES)
    assert not [errors for subject in subjects if (errors := errors_of(check_model(load_cvimodel(subject.path))))]


def _is_found(fault) -> bool:  # type: ignore[no-untyped-def]
    return bool(errors_of(check_model(fault.model())))
