"""Errors that a user of npusim can cause. Mistakes of npusim itself are failed asserts, never one of these."""

from __future__ import annotations


class NpusimError(Exception):
    """Base of every error that npusim raises on purpose.

    Its message is one sentence that names the thing, the value, the rule and the way out."""


class FileFormatError(NpusimError):
    """A file is damaged, truncated, hostile, or of a kind that is not supported."""


class IllegalInstruction(NpusimError):
    """A descriptor breaks a rule of the chip.

    `index` is its place in the command buffer, or -1 if that is not known."""

    def __init__(self, message: str, index: int = -1) -> None:
        super().__init__(message)
        self.index = index


class Deadlock(NpusimError):
    """Both engines wait for an id that never comes."""


class AddressError(NpusimError):
    """An address or a range is outside GMEM or LMEM."""


class UsageError(NpusimError):
    """A caller passed something that contradicts the documented interface."""


class Md5Warning(UserWarning):
    """A .cvimodel does not have the md5 that its header states. The board's runtime runs such a file too."""
