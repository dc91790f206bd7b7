"""`ERRORS`: everything that this project's packages raise on purpose, for `except npusim.ERRORS as error`.

The packages have an error class each, since none of them may import the others. A tuple joins them without making any
of them a ValueError, which NumPy raises too and which would hide our own mistakes from whoever catches it."""

from __future__ import annotations

from golden.errors import GoldenError
from kv.errors import KVError
from npusim.errors import NpusimError
from reference_model.errors import ModelError

ERRORS: tuple[type[Exception], ...] = (NpusimError, GoldenError, KVError, ModelError)
