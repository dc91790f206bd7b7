"""A file of the samples that an evaluation has finished, so that it can continue after an interruption."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

from golden.whole import replacing
from npusim.errors import UsageError
from npusim.evaluation.plan import Cell, Plan
from npusim.evaluation.row import Outcome, Outcomes

MAX_BYTES = 256 << 20
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
_TYPES = {field.name: _KINDS[str(field.type)] for field in fields(Outcome)}


class Journal:
    """The file `path` with the plan's settings and the finished samples. The whole file is replaced after each sample,
    so it is never half written.

    Raises UsageError if the file is of a plan with other settings, or is not a journal.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self._plan = plan
        self.done: Outcomes = self._read() if path.exists() else {}

    def add(self, cell: Cell, outcomes: list[Outcome]) -> None:
        """Records a finished sample. Raises UsageError if the file cannot be written."""
        self.done[cell] = outcomes
        done = [
            {"context": c, "sample": s, "outcomes": [asdict(o) for o in found]} for (c, s), found in self.done.items()
        ]
        try:
            with replacing(self.path) as partial:
                partial.write_text(json.dumps({"settings": self._plan.settings(), "done": done}), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror or error}") from None

    def remove(self) -> None:
        """Deletes the file, after the result was stored."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> Outcomes:
        way_out = "delete it to start anew, or give --json another name"
        try:
            if self.path.stat().st_size > MAX_BYTES:
                raise ValueError("it is too large")
            held = json.loads(self.path.read_bytes())
            settings = dict(held["settings"])
            done = {
                Cell(int(cell["context"]), int(cell["sample"])): [_outcome(o) for o in cell["outcomes"]]
                for cell in held["done"]
            }
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UsageError(f"{self.path} is not the journal of an evaluation ({error}): {way_out}") from None
        wanted = self._plan.settings()
        for name in wanted:
            if settings.get(name) != wanted[name]:
                theirs, ours = json.dumps(settings.get(name)), json.dumps(wanted[name])
                raise UsageError(
                    f"{self.path} holds an unfinished run with {name} {theirs}, but this one has {ours}: repeat its "
                    f"settings, {way_out}"
                )
        return done


def _outcome(held: dict[str, object]) -> Outcome:
    for name, kind in _TYPES.items():
        if not isinstance(held[name], kind):
            raise ValueError(f"{name} is {held[name]!r}")
    return Outcome(**{name: held[name] for name in _TYPES})  # type: ignore[arg-type]
