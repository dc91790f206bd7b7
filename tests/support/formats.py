"""Every file format that is read: a good file of each, and what opens it. Damaged copies are refused or opened."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lz4.block
import numpy as np
from gguf import GGMLQuantizationType

import reference_model
from golden import read_archive, write_archive
from kv.tasks.files import infinitebench_file, longbench_file
from kv.tasks.prompts import read_templates
from kv.tasks.qa import read_hotpotqa, read_squad
from npusim import Model
from npusim.board import default_board
from npusim.check import check_program
from npusim.evaluation.journal import Journal
from npusim.evaluation.plan import Cell, Plan
from npusim.evaluation.row import Outcome
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import SectionType
from npusim.profile import profile_program
from npusim.profile.pmu_csv import des_csv, is_layer_csv, layer_csv, read_layers, read_pmu
from npusim.profile.report import report_data
from npusim.program.asm import assemble
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.disasm import disassemble, disassemble_json
from npusim.program.dmabuf import write_dmabuf
from npusim.program.open import open_program
from reference_model.train.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from reference_model.train.curve import draw_loss_curve
from reference_model.train.network import initial_params
from reference_model.train.run import recorded_recipe
from reference_model.train.sizes import recipe_for
from tests.loader.build_cvimodel import ModelData, SectionData, build_cvimodel
from tests.reference_model.test_files import tensors, write_gguf, write_llama2c

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
MLP = DATA / "mlp_cv181x_int8.cvimodel"
SMALL = recipe_for(1000, hidden_size=32)
PLAN = Plan(model="builtin", task="recall", policies=("full", "quest"), budgets=(16,), contexts=(96,), samples=2)
BINARY, TEXT, JSON, ZIPPED, CVIMODEL = "binary", "text", "json", "a .npy in a .npz", "a .cvimodel with its md5"


@dataclass(frozen=True)
class Format:
    """How good files are written into a directory, which of them are damaged, and what opens the result.

    how     a file's kind, which says how it is damaged
    """

    name: str
    write: Callable[[Path], None]
    victims: dict[str, str]
    open: Callable[[Path], object]


def _copy(source: Path, name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(source.read_bytes()) and None


def _forward(folder: Path) -> None:
    Model(folder / "m.cvimodel").forward(read_archive(DATA / "mlp.in.npz"))


def _study(path: Path, chip: str | None = None) -> None:
    """What check, disasm and profile do."""
    program = open_program(path, chip=chip)
    check_program(program)
    for cmdbuf in program.cmdbufs.values():
        disassemble_json(cmdbuf)
    report_data(profile_program(program, default_board(program.chip)))


def _compressed(folder: Path) -> None:
    model = load_cvimodel(MLP)
    sections = []
    for section in model.sections:
        plain = bytes(model.section_bytes(section))
        sections.append(
            SectionData(section.kind, section.name, lz4.block.compress(plain, store_size=False), len(plain))
        )
    data = ModelData(model.chip.name, model.programs, sections, model.weights)
    (folder / "m.cvimodel").write_bytes(build_cvimodel(data))


def _commands(folder: Path) -> None:
    model = load_cvimodel(MLP)
    data = bytes(model.section_bytes(next(s for s in model.sections if s.kind == SectionType.CMDBUF)))
    cmdbuf = parse_cmdbuf(model.chip, data)
    (folder / "m.cmdbuf").write_bytes(data)
    (folder / "m.dmabuf").write_bytes(write_dmabuf(cmdbuf))
    (folder / "m.s").write_text(disassemble(cmdbuf, "subfunc_0"))


def _archives(folder: Path) -> None:
    tensors = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.arange(5, dtype=np.int8)}
    for name in ("a.npz", "a.bin"):
        write_archive(folder / name, tensors)


def _pmu(folder: Path) -> None:
    records = profile_program(open_program(MLP), default_board(open_program(MLP).chip)).records
    (folder / "a_des.csv").write_text(des_csv(records))
    (folder / "a_layer.csv").write_text(layer_csv(records, 5e8))


def _open_pmu(path: Path) -> None:
    if is_layer_csv(path):
        read_layers(path)
    else:
        read_pmu(path)


def _gguf(folder: Path) -> None:
    write_gguf(folder / "m.gguf", GGMLQuantizationType.Q8_0)


def _llama2c(folder: Path) -> None:
    write_llama2c(folder / "m.bin", tensors(), tied=True)


def _hub(folder: Path) -> None:
    """A directory in the hub's layout, by the project's own export."""
    from reference_model.train.export import save_model

    builtin = reference_model.load("builtin").tokenizer.backend
    (folder / "tokenizer.json").write_text(builtin.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "", "add_bos_token": False}))
    config = SMALL.config(builtin.get_vocab_size())
    save_model(folder, initial_params(config, 1), config)
    text = json.loads((folder / "config.json").read_text())
    extra = {"rope_scaling": None, "rope_parameters": {"rope_theta": 1e4}, "bos_token_id": 0}
    (folder / "config.json").write_text(json.dumps(text | extra))


def _speak(path: Path) -> None:
    with np.errstate(all="ignore"):
        model = reference_model.load(path)
        model.forward((model.tokenizer.encode("ab 12") or [0])[:8])


def _journal(folder: Path) -> None:
    journal = Journal(folder / "a.journal", PLAN)
    numbers = {field.name: 1.0 for field in dataclasses.fields(Outcome) if field.type == "float"}
    for sample in range(2):
        outcome = Outcome(policy="full", budget=16, prompt_tokens=90, answer="red", **numbers)  # type: ignore[arg-type]
        journal.add(Cell(96, sample), [outcome])


def _tasks(folder: Path) -> None:
    row = {"context": "a b c", "input": "what?", "answers": ["b"], "answer": ["b"], "all_classes": None, "length": 3}
    lines = "".join(json.dumps(row) + "\n" for _ in range(3))
    (folder / "hotpotqa.jsonl").write_text(lines)
    (folder / "passkey.jsonl").write_text(lines)
    (folder / "templates.json").write_text(json.dumps({"hotpotqa": "{context} {input}", "qasper": "{context}"}))
    question = {"question": "what?", "answers": [{"text": "b"}], "is_impossible": False}
    squad = {"data": [{"paragraphs": [{"context": "a b c", "qas": [question]}]}]}
    (folder / "squad.json").write_text(json.dumps(squad))
    hotpot = [{"context": [["title", ["a b c."]]], "question": "what?", "answer": "b"}]
    (folder / "hotpot.json").write_text(json.dumps(hotpot))


def _ask(read: Callable[[Path], object]) -> Callable[[Path], None]:
    def asked(path: Path) -> None:
        task = read(path)
        sample = task.sample(np.random.default_rng(1), 60, lambda text: len(text.split()))  # type: ignore[attr-defined]
        task.score("b", sample)  # type: ignore[attr-defined]

    return asked


def _run_files(folder: Path) -> None:
    identity = {"recipe": dataclasses.asdict(SMALL), "text_sha256": "00"}
    (folder / "run.json").write_text(json.dumps(identity))
    report = {"step": 1, "num_steps": 2, "loss": 1.0, "validation_loss": None}
    (folder / "log.jsonl").write_text(json.dumps(report) + "\n" + json.dumps(report | {"validation_loss": 2.0}) + "\n")
    save_checkpoint(folder / "checkpoint.safetensors", TrainingState.fresh(initial_params(SMALL.config(320), 1)))


def _drawn(folder: Path) -> None:
    draw_loss_curve(folder / "log.jsonl", folder / "loss.png")


FORMATS = (
    *(
        Format(f"cvimodel {name}", _copy(DATA / f"{name}.cvimodel", "m.cvimodel"), {"m.cvimodel": CVIMODEL}, _forward)
        for name in ("mlp_cv181x_int8", "mlp_cv183x_bf16", "mlp_cv180x_int8")
    ),
    Format(
        "cvimodel checked", _copy(MLP, "m.cvimodel"), {"m.cvimodel": CVIMODEL}, lambda at: _study(at / "m.cvimodel")
    ),
    Format("cvimodel with lz4", _compressed, {"m.cvimodel": CVIMODEL}, _forward),
    Format("cmdbuf", _commands, {"m.cmdbuf": BINARY}, lambda at: _study(at / "m.cmdbuf")),
    Format("dmabuf", _commands, {"m.dmabuf": BINARY}, lambda at: _study(at / "m.dmabuf", "cv181x")),
    Format("asm", _commands, {"m.s": TEXT}, lambda at: assemble((at / "m.s").read_text("utf-8", "replace"))),
    Format("npz", _archives, {"a.npz": BINARY}, lambda at: read_archive(at / "a.npz")),
    Format("npy in npz", _archives, {"a.npz": ZIPPED}, lambda at: read_archive(at / "a.npz")),
    Format("bin", _archives, {"a.bin": BINARY, "a.bin.json": JSON}, lambda at: read_archive(at / "a.bin")),
    Format("pmu records", _pmu, {"a_des.csv": TEXT}, lambda at: _open_pmu(at / "a_des.csv")),
    Format("pmu layers", _pmu, {"a_layer.csv": TEXT}, lambda at: _open_pmu(at / "a_layer.csv")),
    Format("gguf", _gguf, {"m.gguf": BINARY}, lambda at: _speak(at / "m.gguf")),
    Format("llama2c", _llama2c, {"m.bin": BINARY, "tokenizer.bin": BINARY}, lambda at: _speak(at / "m.bin")),
    Format(
        "hub",
        _hub,
        {"config.json": JSON, "tokenizer_config.json": JSON, "model.safetensors": BINARY, "tokenizer.json": JSON},
        _speak,
    ),
    Format("journal", _journal, {"a.journal": JSON}, lambda at: Journal(at / "a.journal", PLAN)),
    Format("longbench", _tasks, {"hotpotqa.jsonl": TEXT}, lambda at: _ask(longbench_file)(at / "hotpotqa.jsonl")),
    Format("infinitebench", _tasks, {"passkey.jsonl": TEXT}, lambda at: _ask(infinitebench_file)(at / "passkey.jsonl")),
    Format("squad", _tasks, {"squad.json": JSON}, lambda at: _ask(read_squad)(at / "squad.json")),
    Format("hotpotqa", _tasks, {"hotpot.json": JSON}, lambda at: _ask(read_hotpotqa)(at / "hotpot.json")),
    Format("templates", _tasks, {"templates.json": JSON}, lambda at: read_templates(at / "templates.json")),
    Format("run.json", _run_files, {"run.json": JSON}, recorded_recipe),
    Format("log.jsonl", _run_files, {"log.jsonl": TEXT}, _drawn),
    Format(
        "checkpoint",
        _run_files,
        {"checkpoint.safetensors": BINARY},
        lambda at: load_checkpoint(at / "checkpoint.safetensors", initial_params(SMALL.config(320), 1)),
    ),
)
