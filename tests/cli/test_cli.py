"""The command line: exit codes, files, JSON, and sentences instead of tracebacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import style

from golden import read_archive, write_archive
from npusim.cli import main
from npusim.cli.options.files import JsonTarget

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
MODEL = DATA / "mlp_cv181x_int8.cvimodel"
INPUT = DATA / "mlp.in.npz"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_run_then_diff_against_the_vendor_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", MODEL, "-i", INPUT, "-o", tmp_path / "out.npz", "--all-tensors") == 0
    capsys.readouterr()
    assert run("diff", tmp_path / "out.npz", DATA / "mlp_cv181x_int8.out.npz", "--model", MODEL, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] and report["first_divergence"] is None
    assert {tensor["verdict"] for tensor in report["tensors"]} == {"EQUAL"}


def test_vendor_spellings_do_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    assert run("model_runner", "--input", INPUT, "--model", MODEL, "--output", out, "--dump_all_tensors") == 0
    assert (
        run("npz_tool", "compare", out, DATA / "mlp_cv181x_int8.out.npz", "--tolerance", "0.99,0.9", "--except", "-")
        == 0
    )


def test_diff_of_different_tensors_is_1_and_names_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = read_archive(DATA / "mlp_cv181x_int8.out.npz")
    target = {name: -array for name, array in reference.items()}
    write_archive(tmp_path / "target.npz", target)
    assert run("diff", tmp_path / "target.npz", DATA / "mlp_cv181x_int8.out.npz") == 1
    assert "first difference" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_diff_draws_the_first_tensor_that_fails_or_the_one_that_is_named(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = read_archive(DATA / "mlp_cv181x_int8.out.npz")
    first, *_, last = reference
    write_archive(tmp_path / "target.npz", reference | {last: -reference[last]})
    for more, name in (([], last), (["--tensor", first], first)):
        archives, picture = (tmp_path / "target.npz", DATA / "mlp_cv181x_int8.out.npz"), tmp_path / f"picture.{kind}"
        assert run("diff", *archives, "--plot", picture, *more) == 1
        assert capsys.readouterr().out.splitlines()[-1] == f"{picture}: errors of {name}"
        assert picture.stat().st_size > 5000


def test_a_picture_is_the_same_whatever_the_users_matplotlibrc_says(tmp_path: Path) -> None:
    reference = read_archive(DATA / "mlp_cv181x_int8.out.npz")
    write_archive(tmp_path / "target.npz", {name: -array for name, array in reference.items()})
    arguments = ("diff", tmp_path / "target.npz", DATA / "mlp_cv181x_int8.out.npz", "--plot")
    run(*arguments, tmp_path / "plain.png")
    with style.context(["dark_background", {"savefig.transparent": True}]):
        run(*arguments, tmp_path / "dark.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "dark.png").read_bytes()


def test_diff_refuses_to_draw_what_was_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = DATA / "mlp_cv181x_int8.out.npz"
    assert run("diff", archive, archive, "--plot", tmp_path / "a.png", "--tensor", "nope") == 2
    assert "no tensor 'nope' was compared" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_disasm_and_asm_round_trip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("disasm", MODEL) == 0
    (tmp_path / "mlp.s").write_text(capsys.readouterr().out)
    assert run("asm", tmp_path / "mlp.s", "-o", tmp_path / "mlp.cmdbuf") == 0
    capsys.readouterr()
    assert run("disasm", tmp_path / "mlp.cmdbuf") == 0
    again = capsys.readouterr().out.splitlines()
    assert again == [line for line in (tmp_path / "mlp.s").read_text().splitlines() if not line.startswith(".section")]


def test_info_counts_instructions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", MODEL, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["chip"] == "cv181x"
    assert report["instructions"][
        "subfunc_1" if "subfunc_1" in report["instructions"] else next(iter(report["instructions"]))
    ]
    assert run("info", MODEL) == 0
    assert "inputs and outputs" in capsys.readouterr().out


def test_numbers_that_json_lacks_are_texts(tmp_path: Path) -> None:
    JsonTarget(tmp_path / "a.json").write({"qscale": float("nan"), "kl": [float("inf"), 1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"qscale": "nan", "kl": ["inf", 1.5]}


TROUBLE = {
    "a missing model": lambda tmp: ("run", tmp / "no.cvimodel", "-i", INPUT, "-o", tmp / "o.npz"),
    "a missing input": lambda tmp: ("run", MODEL, "-i", tmp / "no.npz", "-o", tmp / "o.npz"),
    "a directory that does not exist": lambda tmp: ("run", MODEL, "-i", INPUT, "-o", tmp / "no" / "o.npz"),
    "an output that is the input": lambda tmp: ("run", MODEL, "-i", INPUT, "-o", INPUT),
    "an input with the wrong name": lambda tmp: ("run", MODEL, "-i", wrong_input(tmp), "-o", tmp / "o.npz"),
    "text that is no program": lambda tmp: ("disasm", text_file(tmp)),
    "an empty program": lambda tmp: ("asm", text_file(tmp, "; nothing"), "-o", tmp / "o"),
    "archives with nothing in common": lambda tmp: ("diff", wrong_input(tmp), tmp / "none.npz"),
}


def wrong_input(tmp: Path) -> Path:
    np.savez(tmp / "wrong.npz", y=np.zeros(3, np.float32))
    return tmp / "wrong.npz"


def text_file(tmp: Path, text: str = "hello") -> Path:
    (tmp / "text.s").write_text(text)
    return tmp / "text.s"


@pytest.mark.parametrize("name", sorted(TROUBLE))
def test_trouble_is_one_sentence_and_leaves_no_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = TROUBLE[name](tmp_path)
    before = set(tmp_path.iterdir())
    assert run(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("npusim: ") and "\n" not in error and "Traceback" not in error
    assert set(tmp_path.iterdir()) == before


def test_nan_in_an_input_is_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = read_archive(DATA / "mlp.in.npz")
    write_archive(tmp_path / "in.npz", {name: np.full_like(array, np.nan) for name, array in inputs.items()})
    run("run", DATA / "mlp_cv181x_bf16.cvimodel", "-i", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert "note: input x holds 1,024 NaN in 1,024 numbers" in capsys.readouterr().err


def test_an_archive_much_larger_than_the_inputs_is_refused_before_it_is_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_archive(tmp_path / "in.npz", {"x": np.zeros(1 << 20, np.float32)})
    assert run("run", MODEL, "-i", tmp_path / "in.npz", "-o", tmp_path / "out.npz") == 2
    assert "unpacks to 4194432 bytes: at most 98304 are allowed" in capsys.readouterr().err


@pytest.mark.slow
def test_demo_ends_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo") == 0
    assert "0 failed" in capsys.readouterr().out
