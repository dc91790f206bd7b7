"""One door to every kind of model file."""

from __future__ import annotations

from pathlib import Path

from reference_model.errors import ModelError
from reference_model.fetch import FETCHABLE, fetched_path
from reference_model.files.gguf_file import load_gguf
from reference_model.files.hub import load_hub
from reference_model.files.llama2c import load_llama2c
from reference_model.model import Model

BUILTIN = Path(__file__).parent / "data" / "builtin"


def load(path_or_name: str | Path) -> Model:
    """A model from `builtin`, the name of a model that was fetched, or a file or directory.

    That is a .gguf, a llama2.c .bin, or a directory with config.json and *.safetensors. Raises ModelError when there
    is no such model, or when its files are damaged, incomplete or of an unknown architecture."""
    path = _resolved(str(path_or_name))
    if path.is_dir():
        return Model(*load_hub(path))
    if not path.is_file():
        names = ", ".join(["builtin", *FETCHABLE])
        raise ModelError(
            f"no model at {path}: give {names}, a .gguf or .bin file, or a directory with config.json and safetensors"
        )
    if path.suffix == ".bin":
        return Model(*load_llama2c(path))
    return Model(*load_gguf(path))


def _resolved(path_or_name: str) -> Path:
    if path_or_name == "builtin":
        return BUILTIN
    if path_or_name in FETCHABLE:
        return fetched_path(path_or_name)
    return Path(path_or_name)
