"""Tasks that need no file. Those that do: longbench, infinitebench, qa."""

from __future__ import annotations

from kv.errors import KVError
from kv.tasks.base import Task
from kv.tasks.kv_recall import KeyValueRecall
from kv.tasks.needle import Needle
from kv.tasks.passkey import Passkey
from kv.tasks.ruler import ruler_tasks

TASKS: tuple[Task, ...] = (Passkey(), Needle(), KeyValueRecall(), *ruler_tasks())


def task_named(name: str) -> Task:
    """The task of TASKS with this name, or KVError."""
    for task in TASKS:
        if task.name == name:
            return task
    raise KVError(f"there is no task {name!r}: choose one of {', '.join(task.name for task in TASKS)}")
