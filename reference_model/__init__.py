"""A NumPy transformer to hold a chip, a cache policy or a quantisation against."""

from reference_model.errors import ModelError
from reference_model.load import load
from reference_model.model import Model

__all__ = ["Model", "ModelError", "load"]
