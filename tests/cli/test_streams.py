"""Standard output that is full, closed or ends early; encodings that lack characters; names that would be obeyed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import write_archive
from npusim.cli.printing import Grid, Pipe, Printable, bold
from npusim.cli.streams import visible
from npusim.cli.terminal import LiteralConsole

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
MODEL = DATA / "mlp_cv181x_int8.cvimodel"
NPUSIM = [sys.executable, "-m", "npusim.cli"]
SHOWING = {
    "info": ("info", MODEL),
    "check": ("check", MODEL),
    "disasm": ("disasm", MODEL),
    "json": ("model", "list", "--json"),
    "help": ("--help",),
}


def of(words: str) -> list[str]:
    return [*NPUSIM, *map(str, SHOWING[words])]


@pytest.mark.parametrize("words", SHOWING)
def test_a_full_disk_under_standard_output_is_one_sentence_and_exit_code_2(words: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(of(words), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "npusim: cannot read or write standard output: No space left on device\n"


@pytest.mark.parametrize("words", ["info", "help"])
def test_a_closed_standard_output_is_refused_before_the_work(words: str) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *of(words)], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "npusim: standard output is closed: send it to a file, or to /dev/null\n"


@pytest.mark.parametrize("words", ["info", "disasm"])
def test_a_pipe_whose_reader_has_gone_is_one_sentence_and_exit_code_2(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(of(words), stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 2
    assert done.stderr == "npusim: standard output was closed by its reader before everything was written\n"


def test_closed_standard_error_does_not_turn_messages_into_output() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *NPUSIM, "info", "no such file"], stdout=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_encoding_without_the_characters_gets_others(encoding: str, tmp_path: Path) -> None:
    write_archive(tmp_path / "a.npz", {"λ": np.ones(3, np.float32)})
    env = os.environ | {"PYTHONIOENCODING": encoding}
    command = [*NPUSIM, "diff", str(tmp_path / "a.npz"), str(tmp_path / "a.npz")]
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    assert done.returncode == 0 and rb"\u03bb" in done.stdout
    done = subprocess.run([*NPUSIM, "profile", str(MODEL)], capture_output=True, env=env, check=False)
    assert done.returncode == 0 and b"####" in done.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv [red] é 名", "conv [red] é 名"),
        ("\x1b]0;pwn\x07", r"\x1b]0;pwn\x07"),
        ("a\nb\r\t", r"a\nb\r\t"),
        ("safe\u202egpj.exe", r"safe\u202egpj.exe"),
        ("half \ud800 pair", r"half \ud800 pair"),
    ],
)
def test_visible_escapes_what_a_terminal_obeys_and_nothing_else(text: str, shown: str) -> None:
    assert visible(text) == shown


def on_a_terminal(*parts: Printable) -> str:
    """What a wide terminal shows, without styles and blanks at the ends of lines."""
    out = LiteralConsole(width=1000)
    with out.capture() as capture:
        out.print(*parts, sep="\n")
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def in_a_pipe(*parts: Printable) -> str:
    with redirect_stdout(StringIO()) as out:
        Pipe().print(*parts, sep="\n")
    return out.getvalue().removesuffix("\n")


@pytest.mark.parametrize("shown", [on_a_terminal, in_a_pipe])
@pytest.mark.parametrize("name", ["[/red]_f32", "[red]_f32x", ":smile:", "\x1b[2Jgone", "=cmd|x!A1"])
def test_a_name_is_printed_literally_wherever_it_stands(name: str, shown: Callable[..., str]) -> None:
    table = Grid("name", title=name)
    table.add_row(name, style="bold red")
    assert shown(table, f"in {name}", bold(name)).count(visible(name)) == 4


@pytest.mark.parametrize("shown", [on_a_terminal, in_a_pipe])
def test_a_line_end_in_a_cell_or_a_title_is_visible(shown: Callable[..., str]) -> None:
    table = Grid("name", title="a\nb")
    table.add_row("c\nd")
    assert shown(table).splitlines() == [r"a\nb", "name", r"c\nd"]


@given(st.data())
def test_a_pipe_gets_the_table_that_a_terminal_shows(data: st.DataObject) -> None:
    words = st.text(st.sampled_from("ab é漢字🙂\n\x1b")).map(str.strip)
    columns = [f"{at}{data.draw(words)}" for at in range(data.draw(st.integers(1, 4)))]
    right = data.draw(st.sets(st.sampled_from(columns)))
    min_width, header = data.draw(st.integers(0, 6)), data.draw(st.booleans())
    title = data.draw(st.sampled_from(["", "t"]))  # on a terminal a longer one may widen the table
    table = Grid(*columns, title=title, right=right, min_width=min_width, show_header=header)
    for row in data.draw(st.lists(st.lists(words, min_size=1, max_size=len(columns)), min_size=1, max_size=4)):
        table.add_row(*row)
    assert in_a_pipe(table) == on_a_terminal(table)


def test_the_longest_possible_name_is_written_and_a_longer_one_refused(tmp_path: Path) -> None:
    at = tmp_path / ("n" * 250 + ".json")
    for path, code in ((at, 0), (tmp_path / ("n" * 251 + ".json"), 2), (tmp_path / ("ü" * 125 + ".json"), 0)):
        done = subprocess.run(
            [*NPUSIM, "info", str(MODEL), "--json", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == (code == 2)
        assert ("its name has 256 bytes, at most 255 are possible" in done.stderr) == (code == 2)
    assert json.loads(at.read_text())["chip"] == "cv181x"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_output_by_the_name_of_standard_output_comes_before_what_is_printed_and_behind_what_was(
    tmp_path: Path,
) -> None:
    with open(tmp_path / "out", "w+") as out:
        out.write("before\n")
        out.flush()
        subprocess.run([*NPUSIM, "profile", str(MODEL), "--html", "/dev/stdout"], stdout=out, check=True)
    said = (tmp_path / "out").read_text()
    assert said.startswith("before\n<!doctype html>") and said.endswith("wrote /dev/stdout\n") and "</script>" in said
