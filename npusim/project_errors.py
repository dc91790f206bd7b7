"""`ERRORS`: the base classes of everything that this project's packages raise on purpose, for `except npusim.ERRORS`.

Each package has an error class of its own, since none of them may import the others. Their common base would have to be
a built-in class such as ValueError. NumPy raises that too, so catching it would hide mistakes of npusim itself."""

from __future__ import annotations

from golden.errors import GoldenError
from kv.errors import KVError
from npusim.errors import NpusimError
from reference_model.errors import ModelError

ERRORS: tuple[type[Exception], ...] = (NpusimError, GoldenError, KVError, ModelError)
