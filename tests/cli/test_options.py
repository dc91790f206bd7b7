"""Options as data: what holds for every option of every command, and what they make of words."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import npusim.cli.eval as evaluation
from npusim.cli import capacity
from npusim.cli.commands import COMMANDS, every_entry
from npusim.cli.main import main
from npusim.cli.options.argument import Argument, File, Form
from npusim.cli.options.option import OnlyWith
from npusim.cli.parser import parse

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
MODEL = DATA / "mlp_cv181x_int8.cvimodel"
INPUT = DATA / "mlp.in.npz"
LOADED = {words: entry.load() for words, entry in every_entry(COMMANDS)}
ARGUMENTS = {words: command.arguments for words, command in LOADED.items()}
EVERY = [(words, argument) for words, arguments in ARGUMENTS.items() for argument in arguments]
VENDORS = ("model_runner", "npz_tool")
"""They spell options as the vendor does, under whom --model is a .cvimodel."""
OPENING = ("run", "info", "disasm", "check", "profile", "diff", "capture", "model_runner")
"""Commands that open a .cvimodel."""


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def ids(case: tuple[str, Argument]) -> str:
    return f"{case[0]} {case[1].name}"


@pytest.mark.parametrize("case", EVERY, ids=ids)
def test_every_option_says_what_it_means_and_what_it_takes(case: tuple[str, Argument]) -> None:
    _, argument = case
    assert argument.help and argument.help == argument.help.strip(" .") and argument.name
    assert argument.form is Form.FLAG or argument.metavar
    assert argument.is_flag or argument.required


def test_no_two_options_of_one_name_mean_different_things() -> None:
    meanings: dict[str, set[str]] = defaultdict(set)
    for words, argument in EVERY:
        if words not in VENDORS and argument.is_flag:
            for name in argument.names:
                meanings[name].add(argument.help)
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


def test_older_names_mean_something_else_under_other_commands_in_two_places_only() -> None:
    """`diff --model` was a .cvimodel and `llm export --steps` a number of tokens; both go on working."""
    older = {name: words for words, argument in EVERY for name in argument.aliases if name != "--on"}
    assert older == {"--model": "diff", "--steps": "llm export"}


@pytest.mark.parametrize("words", ARGUMENTS)
def test_no_name_stands_twice_under_a_command(words: str) -> None:
    names = [name for argument in ARGUMENTS[words] for name in (*argument.names, *argument.aliases)]
    keys = [argument.key for argument in ARGUMENTS[words]]
    assert len(set(names)) == len(names) and len(set(keys)) == len(keys)


@pytest.mark.parametrize("words", OPENING)
def test_whatever_opens_a_cvimodel_takes_its_chip_and_leaves_its_md5_alone(words: str) -> None:
    assert {"--chip", "--no-md5", "--strict"} <= {argument.name for argument in ARGUMENTS[words]}


@pytest.mark.parametrize("words", [words for words, found in ARGUMENTS.items() if len(found) > 1])
def test_help_of_every_command_and_action_shows_each_option_and_an_example(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*words.split(), "--help")
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and f"npusim {words}" in shown.partition("example:")[2]
    for argument in ARGUMENTS[words]:
        assert argument.name in shown and not any(alias in shown for alias in argument.aliases if alias != "--model")


def line(words: str, skipped: Argument | None = None) -> list[str]:
    """A command line with what is required, each word one that could be right."""
    required = [argument for argument in ARGUMENTS[words] if argument.required and argument is not skipped]
    return words.split() + [
        part
        for argument in required
        for part in ([argument.name] * argument.is_flag + [argument.choices[0] if argument.choices else "word.npz"])
    ]


OUTPUTS = [case for case in EVERY if case[1].file in (File.OUTPUT, File.DIRECTORY)]


@pytest.mark.parametrize("case", OUTPUTS, ids=ids)
def test_every_output_is_checked_before_the_work_starts(
    case: tuple[str, Argument], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, argument = case
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(type(LOADED[words]), "run", lambda *_: pytest.fail("the work has started"))
    (tmp_path / "file").touch()
    place = "file" if argument.file is File.DIRECTORY else "none/out.png" if "plot" in argument.key else "none/out.npz"
    assert run(*line(words, argument), *([argument.name] if argument.is_flag else []), place) == 2
    error = capsys.readouterr().err
    assert error.startswith("npusim: cannot write ") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def groups() -> Iterator[tuple[str, str, str]]:
    for words, command in LOADED.items():
        for entry in command.options:
            if isinstance(entry, OnlyWith):
                first = entry.first.arguments[0].name
                yield from ((words, argument.name, first) for option in entry.others for argument in option.arguments)


def arguments_named(words: str, name: str) -> list[str]:
    argument = next(argument for argument in ARGUMENTS[words] if argument.name == name)
    if argument.form is Form.FLAG:
        return [name]
    return [name, argument.choices[0] if argument.choices else "16"]


@pytest.mark.parametrize(("words", "name", "first"), list(groups()))
def test_an_option_that_needs_another_is_refused_without_it(
    words: str, name: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*line(words), *arguments_named(words, name)) == 2
    assert capsys.readouterr().err == f"npusim: {name} does nothing without {first}: leave it out\n"


NOTHING = {
    "a budget where everything is attended to": (
        ["generate", "a", "--board", "duo", "--policy", "full", "--budget", "64"],
        "--budget does nothing with --policy full",
    ),
    "a draw where the likeliest is taken": (
        ["generate", "a", "--temperature", "0", "--top-k", "4"],
        "--top-k does nothing with --temperature 0",
    ),
    "all findings where JSON has them": (["check", str(MODEL), "--all", "--json"], "--all does nothing with --json"),
    "names of tensors for times": (["diff", "a.csv", "b.csv", "--except", "x"], "--except does nothing for PMU files"),
    "a model's order for times": (["diff", "a.csv", "b.csv", "--model", "m"], "--cvimodel does nothing for PMU files"),
    "a chip of no program": (["diff", "a.npz", "b.npz", "--chip", "cv181x"], "--chip does nothing without --cvimodel"),
    "ranges of a precision that is not asked for": (
        ["model", "report", "--text", "t", "--precision", "int8", "--smoothing", "0.5"],
        "--smoothing does nothing where --precision leaves w8a8 out",
    ),
    "anything besides the list": (["eval", "--list", "--markdown", "m.md"], "--markdown does nothing with --list"),
    "templates of a task without": (["eval", "--task", "passkey", "--templates", "t"], "'passkey' has no templates"),
    "templates of another file": (["eval", "--task", "qa_1:f", "--templates", "t"], "'qa_1' has no templates"),
    "a haystack beside a file": (
        ["eval", "--task", "longbench:f", "--haystack", "h"],
        "takes its texts from its own file",
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_an_option_that_does_nothing_is_refused_in_a_sentence(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, sentence = NOTHING[case]
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and not printed.out


@pytest.fixture
def cmdbuf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run("disasm", MODEL) == 0
    (tmp_path / "mlp.s").write_text(capsys.readouterr().out)
    assert run("asm", tmp_path / "mlp.s", "-o", tmp_path / "mlp.cmdbuf") == 0
    capsys.readouterr()
    return tmp_path / "mlp.cmdbuf"


def test_options_of_a_container_are_refused_for_bare_commands(cmdbuf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (["disasm", cmdbuf, "--no-md5"], "--no-md5 does nothing for"),
        (["disasm", cmdbuf, "--strict"], "--strict does nothing for"),
        (["disasm", MODEL, "--strict", "--no-md5"], "--no-md5 and --strict contradict each other"),
        (["profile", cmdbuf, "--program", "0"], "--program does nothing for"),
        (["info", cmdbuf], "holds commands for cv181x alone: give a .cvimodel"),
        (["check", cmdbuf, "--chip", "cv180x"], "is for cv181x: leave --chip cv180x out"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1


def opened(words: str, model: Path, tmp_path: Path) -> list[object]:
    """A command line that opens `model`."""
    archives = ["-i", INPUT, "-o", tmp_path / "out.npz"]
    return {
        "run": ["run", model, *archives],
        "diff": ["diff", DATA / "mlp_cv181x_int8.out.npz", DATA / "mlp_cv181x_int8.out.npz", "--cvimodel", model],
        "capture": ["capture", model, *archives, "--lib", tmp_path],
        "model_runner": ["model_runner", "--model", model, "--input", INPUT, "--output", tmp_path / "out.npz"],
    }.get(words, [words, model])


@pytest.mark.parametrize("words", OPENING)
def test_another_chip_is_refused_and_another_md5_a_warning_that_strict_refuses_and_no_md5_silences(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = tmp_path / "edited.cvimodel"
    data = bytearray(MODEL.read_bytes())
    data[16] ^= 1  # in the md5 itself
    edited.write_bytes(data)
    code = run(*opened(words, edited, tmp_path))
    warned = capsys.readouterr().err
    assert warned.startswith("npusim: warning: ") and "md5" in warned.splitlines()[0]
    assert code == 0 if words != "capture" else "libcviruntime.so cannot be loaded" in warned
    assert run(*opened(words, edited, tmp_path), "--strict") == 2
    refused = capsys.readouterr().err
    assert "md5" in refused and "leave --strict out" in refused and refused.count("\n") == 1
    assert run(*opened(words, MODEL, tmp_path), "--chip", "cv180x") == 2
    assert "is for cv181x: leave --chip cv180x out" in capsys.readouterr().err
    code = run(*opened(words, edited, tmp_path), "--no-md5", "--chip", "cv181x")
    error = capsys.readouterr().err
    assert "md5" not in error
    assert code == 0 if words != "capture" else "libcviruntime.so cannot be loaded" in error


PRINTING = {
    "info": ["info", MODEL],
    "disasm": ["disasm", MODEL],
    "check": ["check", MODEL],
    "profile": ["profile", MODEL],
    "diff": ["diff", DATA / "mlp_cv181x_int8.out.npz", DATA / "mlp_cv181x_int8.out.npz"],
    "model list": ["model", "list"],
    "generate": ["generate", "And", "--max-tokens", "2"],
}
WAVERING = ("load_s", "prefill_s", "decode_s", "prefill_tokens_per_s", "decode_tokens_per_s")
"""Measured times, which no two runs share."""


@pytest.mark.parametrize("words", PRINTING)
def test_json_means_the_same_everywhere(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, found = tmp_path / "out", []
    for place in ([], ["-"], [path], ["/dev/stdout"]):
        assert run(*PRINTING[words], "--json", *place) == 0
        printed = capsys.readouterr().out
        found.append(json.loads(path.read_text() if place == [path] else printed))
        assert place != [path] or not printed.startswith(("{", "["))
    assert run(*words.split(), "--json", *PRINTING[words][len(words.split()) :]) == 0, "a flag before what is read"
    found.append(json.loads(capsys.readouterr().out))
    if words == "generate":
        found = [{name: value for name, value in report.items() if name not in WAVERING} for report in found]
    assert all(report == found[0] for report in found)


def test_every_command_with_a_result_tells_it_as_json() -> None:
    """asm and capture make a file and say so, fetch says where it is, as-runtime leaves all to its script, the vendor's
    print as the vendor's do."""
    without = {words for words, arguments in ARGUMENTS.items() if "--json" not in {a.name for a in arguments}}
    assert without == {"asm", "as-runtime", "capture", "model fetch", *VENDORS}


def test_a_file_that_json_was_not_meant_for_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copy(MODEL, tmp_path / "other.cvimodel")
    assert run("check", MODEL, "--json", other) == 2
    assert "holds no JSON; give --json another name" in capsys.readouterr().err
    assert Path(other).read_bytes() == MODEL.read_bytes()


def test_what_was_called_on_is_called_board_and_both_work(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for name in ("--board", "--on"):
        for words in (["generate", "a"], ["llm", "export", "d"], ["profile", "m"], ["capacity"]):
            assert run(*words, name, "esp32") == 2
            said.append(capsys.readouterr().err)
    assert said[:4] == said[4:]
    assert said[0] == (
        "npusim: --board is 'esp32': choose from duo, duo256m, duos, licheerv-nano, recamera, cv180x-evb, cv181x-evb\n"
    )


def named_twice(tmp: Path) -> dict[str, list[object]]:
    (tmp / "folder").mkdir()
    copied = shutil.copy(MODEL, tmp / "copied.cvimodel")
    (tmp / "link").symlink_to(copied)
    os.link(copied, tmp / "second name")
    return {
        "the input": ["profile", copied, "--html", copied],
        "a link to the input": ["profile", copied, "--trace", tmp / "link"],
        "another name of the input": ["profile", copied, "--html", tmp / "second name"],
        "the input by another way": ["profile", copied, "--html", tmp / "folder" / ".." / "copied.cvimodel"],
        "the input of a model": ["generate", "a", "--model", copied, "--json", copied],
        "the input of a task": ["eval", "--task", f"perplexity:{copied}", "--markdown", copied],
        "one file for two": ["profile", copied, "--html", tmp / "o", "--trace", tmp / "folder" / ".." / "o"],
        "one file for one of two": ["profile", copied, "--pmu", tmp / "o", "--html", tmp / "o_des.csv"],
        "the shapes of an input": ["diff", tmp / "a.bin", INPUT, "--json", tmp / "a.bin.json"],
        "the shapes of an output": ["run", copied, "-i", INPUT, "-o", tmp / "b.bin", "--json", tmp / "b.bin.json"],
        "the journal": ["eval", "--json", tmp / "o", "--markdown", tmp / "o.journal"],
        "a picture among several": ["capacity", "--plot", tmp / "folder" / "p.png", "--plot-dir", tmp / "folder"],
        "a directory": ["profile", copied, "--html", tmp / "folder"],
        "a picture of no known kind": ["capacity", "--plot", tmp / "o.bmp"],
    }


CASES = (
    "the input",
    "a link to the input",
    "another name of the input",
    "the input by another way",
    "the input of a model",
    "the input of a task",
    "one file for two",
    "one file for one of two",
    "the shapes of an input",
    "the shapes of an output",
    "the journal",
    "a picture among several",
    "a directory",
    "a picture of no known kind",
)


@pytest.mark.parametrize("case", CASES)
def test_an_output_that_would_cost_a_file_is_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = named_twice(tmp_path)
    assert tuple(cases) == CASES
    before = sorted(tmp_path.rglob("*"))
    assert run(*cases[case]) == 2
    error = capsys.readouterr().err
    assert error.startswith(("npusim: cannot write ", "npusim: cannot draw ")) and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "copied.cvimodel").read_bytes() == MODEL.read_bytes()


def test_links_that_go_round_and_folders_that_may_not_be_written_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "dangling").symlink_to(Path("none", "file"))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path / "closed")
    (tmp_path / "closed").mkdir()
    for place, sentence in (
        ("a", "Too many levels of symbolic links"),
        ("dangling", f"the directory {tmp_path / 'none'} does not exist"),
        ("closed/file", f"you may not write into the directory {tmp_path / 'closed'}"),
    ):
        assert run("profile", MODEL, "--html", tmp_path / place) == 2
        error = capsys.readouterr().err
        assert error.startswith("npusim: cannot write ") and sentence in error and error.count("\n") == 1


def test_devices_may_be_named_twice_and_are_left_as_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)  # so that nobody waits for the other end
    assert run("profile", MODEL, "--html", os.devnull, "--trace", os.devnull, "--json", pipe) == 0
    assert os.read(held, 1) == b"{" and pipe.is_fifo() and Path(os.devnull).is_char_device()
    os.close(held)


OLDER = {
    "a flag for JSON before the program": ["check", "--json", str(MODEL)],
    "JSON of a comparison": ["diff", "--json", "a.npz", "b.npz"],
    "JSON of no file in the middle": ["profile", str(MODEL), "--json", "--board", "duo256m"],
    "JSON of a file before the program": ["profile", "--json", "new.json", str(MODEL)],
    "JSON of an evaluation": ["eval", "--json", "new.json"],
    "boards one by one": ["capacity", "--board", "duo", "--board", "duo256m"],
    "the board of a text": ["generate", "a", "--on", "duo256m", "--policy", "quest", "--budget", "256"],
    "a bundle's board and steps": ["llm", "export", "d", "--on", "duo", "--steps", "0"],
    "the order of a model": ["diff", "a.npz", "b.npz", "--model", str(MODEL)],
    "the last of two": ["eval", "--context", "96", "--context", "2k"],
    "the beginning of a name": ["profile", str(MODEL), "--dram", "7.46"],
}


@pytest.mark.parametrize("case", OLDER)
def test_what_was_understood_before_still_is(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, command = next((w, c) for w, c in LOADED.items() if OLDER[case][: len(w.split())] == w.split())
    monkeypatch.setattr(type(command), "run", lambda self, given: 7)
    assert run(*OLDER[case]) == 7, (words, capsys.readouterr().err)


def test_several_are_added_or_the_last_one_counts_as_before() -> None:
    boards = parse(COMMANDS, ["capacity", "--board", "duo", "--board", "duo256m,duos"])[1][capacity.BOARDS]
    assert [board.name for board in boards] == ["duo", "duo256m", "duos"]
    assert parse(COMMANDS, ["eval", "--context", "96", "--context", "128,2k"])[1][evaluation.CONTEXT] == (128, 2048)


WRONG = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "an unknown command": (["dream"], "invalid choice: 'dream'"),
    "an unknown option": (["info", str(MODEL), "--fast"], "unrecognized arguments: --fast"),
    "a missing word": (["run", str(MODEL)], "the following arguments are required: -i/--input, -o/--output"),
    "no number": (["generate", "a", "--top-k", "many"], "--top-k is 'many': give a whole number"),
    "no finite number": (["generate", "a", "--temperature", "nan"], "--temperature is nan: give a number"),
    "a number too low": (["generate", "a", "--max-tokens", "0"], "--max-tokens is 0: use at least 1"),
    "one of several": (["capacity", "--board", "duo,duo3"], "choose from duo, "),
    "no tokens": (["eval", "--budget", "64,4x"], "give a whole number of tokens, as 64 or 4k; several have commas"),
    "no path": (["profile", str(MODEL), "--html", ""], "--html is '': give a path"),
    "no archive's name": (["run", "m", "-i", "i.npz", "-o", "o.txt"], "its name must end in .npz, or in .bin"),
    "no JSON path": (["profile", str(MODEL), "--json="], "--json is ''"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_word_that_cannot_be_is_one_sentence_and_code_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, sentence = WRONG[case]
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("npusim: ") and sentence in printed.err and printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.slow
@pytest.mark.parametrize("words", ["capacity", "eval"])
def test_several_pictures_go_into_a_directory_that_is_made(words: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    directory = tmp_path / "new" / "pictures"
    asked = {
        "capacity": ["--board", "duo,duo256m", "--precision", "int8", "--context", "64"],
        "eval": ["--context", "64,96", "--samples", "1", "--policy", "full,quest", "--budget", "32"],
    }
    names = {"capacity": ["duo.png", "duo256m.png"], "eval": ["context-64.png", "context-96.png"]}
    assert run(words, *asked[words], "--plot-dir", directory) == 0
    assert sorted(path.name for path in directory.iterdir()) == names[words]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in directory.iterdir())
