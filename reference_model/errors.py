"""The one error that a user of reference_model can cause. Our own mistakes are asserts, never this."""

from __future__ import annotations


class ModelError(Exception):
    """A model, weight file, tokenizer or request that cannot be used.

    Its message is one sentence with the thing, the value, the rule and the way out."""
