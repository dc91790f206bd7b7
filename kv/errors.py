"""The error that a user of kv can cause. Mistakes of kv itself are failed asserts, never this error."""

from __future__ import annotations


class KVError(Exception):
    """A request, setting or file that the cache cannot serve: one sentence with the thing, the value, the rule and the
    way out."""
