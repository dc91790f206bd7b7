"""Texts that commands read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npusim.errors import UsageError
from reference_model import Model
from reference_model.kv_store import IntArray


def encoded(model: Model, path: Path) -> IntArray:
    """The tokens of a UTF-8 file. UsageError where it cannot be read or is no such text."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text (byte {error.start}): give a plain text file") from None
    return np.asarray(model.tokenizer.encode(text), np.int64)
