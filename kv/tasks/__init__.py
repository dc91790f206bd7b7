"""Tasks for long contexts. TASKS has those that need no file; longbench, infinitebench and qa read files."""

from __future__ import annotations

from kv.errors import KVError
from kv.tasks.base import Task
from kv.tasks.kv_recall import KeyValueRecall
from kv.tasks.needle import Needle
from kv.tasks.passkey import Passkey, PasskeySpaces
from kv.tasks.ruler import ruler_tasks

TASKS: tuple[Task, ...] = (Passkey(), PasskeySpaces(), Needle(), KeyValueRecall(), *ruler_tasks())


def task_named(name: str) -> Task:
    """The task of TASKS with this name. Raises KVError if there is none."""
    for task in TASKS:
        if task.name == name:
            return task
    raise KVError(f"there is no task {name!r}: choose one of {', '.join(task.name for task in TASKS)}")
