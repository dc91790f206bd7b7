"""How long a damaged .cvimodel can keep npusim busy."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.claim import Say
from benchmarks.cpu import timed
from golden import read_archive
from npusim import Model, NpusimError
from tests.support.hostile import mutate

DATA = Path(__file__).parents[1] / "golden" / "data" / "functional"
VICTIMS = ("mlp_cv181x_int8", "mlp_cv183x_bf16", "conv_cv180x_int8", "mix_cv182x_bf16")
FILES_EACH = 100


def longest(say: Say) -> float:
    """CPU seconds of loading and running, or refusing, a damaged file: the most of 400."""
    rng, found = np.random.default_rng(2026), []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.cvimodel"
        for victim in VICTIMS:
            original, inputs = (
                (DATA / f"{victim}.cvimodel").read_bytes(),
                read_archive(DATA / f"{victim[: victim.index('_')]}.in.npz"),
            )

            def run(inputs=inputs) -> None:  # type: ignore[no-untyped-def]
                with suppress(NpusimError):
                    Model(path).forward(inputs)

            seconds = []
            for _ in range(FILES_EACH):
                path.write_bytes(mutate(rng, original))
                seconds.append(timed(run)())
            say(f"{victim:20} median {np.median(seconds):.3f} s, most {max(seconds):.3f} s of {FILES_EACH} files")
            found += seconds
    return max(found)
