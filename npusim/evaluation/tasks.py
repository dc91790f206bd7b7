"""Tasks by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kv.tasks import TASKS, task_named
from kv.tasks.base import Task
from kv.tasks.files import infinitebench_file, longbench_file, prompts_file
from kv.tasks.haystack import read_sentences
from kv.tasks.needle import Needle
from kv.tasks.prompts import read_templates
from kv.tasks.qa import read_hotpotqa, read_squad
from kv.tasks.record_recall import RecordRecall
from kv.tasks.ruler import ruler_tasks
from kv.tasks.text_perplexity import Perplexity
from npusim.errors import UsageError
from reference_model.errors import ModelError
from reference_model.tokenizer import Tokenizer
from reference_model.train.recall import Recall

OF_FILES: dict[str, tuple[Callable[[Path], Task], str]] = {
    "longbench": (longbench_file, "a LongBench v1 file, named after its task, such as hotpotqa.jsonl"),
    "prompts": (prompts_file, "whole prompts with answers, in lines of {task, prompt, gold}: tasks are LongBench's"),
    "infinitebench": (infinitebench_file, "an InfiniteBench file, named after its task, such as kv_retrieval.jsonl"),
    "qa_1": (read_squad, "RULER's question answering, from a SQuAD file"),
    "qa_2": (read_hotpotqa, "RULER's question answering, from a HotpotQA file with distractors"),
    "perplexity": (
        lambda path: Perplexity(read_sentences(path)),
        "perplexity of the end of passages of a text file; lower is better",
    ),
}
"""For each NAME of NAME:FILE, the function that reads the file, and what the file is."""

RECALL = "recall"


def task_from(spec: str, tokenizer: Tokenizer, haystack: Path | None = None, templates: Path | None = None) -> Task:
    """The task of `spec`, which is NAME or NAME:FILE. Raises UsageError or KVError for a name that is not known, or a
    file that is damaged or of another kind.

    haystack    a text whose sentences hide the needles of `needle` and of RULER's tasks; by default the passkey's noise
    templates   prompts of the LongBench tasks, such as its config/dataset2prompt.json; by default context and question
                are not changed
    """
    name, colon, file = spec.partition(":")
    name = name.replace("-", "_")
    if name in OF_FILES:
        if not file:
            raise UsageError(f"task {name!r} needs a file: write {name}:FILE, {OF_FILES[name][1]}")
        if haystack:
            raise UsageError(f"task {name!r} takes its texts from its own file: leave --haystack out")
        if templates and name != "longbench":
            raise UsageError(f"task {name!r} has no templates: only longbench:FILE does")
        if name == "longbench" and templates:
            return longbench_file(Path(file), template=_template(templates, Path(file).stem.removesuffix("_e")))
        return OF_FILES[name][0](Path(file))
    if colon:
        raise UsageError(f"task {name!r} takes no file: those that do are {', '.join(OF_FILES)}")
    if templates:
        raise UsageError(f"task {name!r} has no templates: only longbench:FILE does")
    if haystack:
        return _in_haystack(name, read_sentences(haystack))
    return record_recall(tokenizer) if name == RECALL else task_named(name)


def _in_haystack(name: str, sentences: tuple[str, ...]) -> Task:
    tasks: tuple[Task, ...] = (
        Needle(haystack=sentences),
        *(t for t in ruler_tasks(sentences) if getattr(t, "haystack", "") == "sentences"),
    )
    for task in tasks:
        if task.name == name:
            return task
    raise UsageError(f"task {name!r} has no haystack: those that do are {', '.join(task.name for task in tasks)}")


def _template(path: Path, name: str) -> str:
    held = read_templates(path)
    if name not in held:
        raise UsageError(f"{path} has no template for {name}: it has {', '.join(sorted(held)) or 'none'}")
    return held[name]


def record_recall(tokenizer: Tokenizer) -> RecordRecall:
    """The recall task with words that are one token of this tokenizer, if it has enough of them."""
    try:
        words = tuple(tokenizer.decode([word]).strip() for word in Recall.of(tokenizer.backend).words)
    except ModelError:
        return RecordRecall()
    return RecordRecall(words=words)


def task_names() -> list[tuple[str, str]]:
    """Name and description of every task."""
    plain = [(task.name, description(type(task))) for task in (*TASKS, RecordRecall())]
    return plain + [(f"{name}:FILE", what) for name, (_, what) in OF_FILES.items()]


def description(kind: type) -> str:
    """The first paragraph of a class's docstring, in one line."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
