"""Scripts that import pyruntime_cvi get npusim's, wherever another one stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "golden" / "data" / "functional" / "mlp_cv181x_int8.cvimodel"
SCRIPT = "import pyruntime_cvi\nprint(pyruntime_cvi.Model({model!r}).outputs[-1].name)\n"
"""What it prints is not known without loading the model."""


def npusim(*words: object, **environment: str) -> subprocess.CompletedProcess:
    """`npusim as-runtime -- words`, with this process's own modules on its path."""
    path = os.pathsep.join([environment.pop("PYTHONPATH", ""), str(Path(__file__).parents[2])]).strip(os.pathsep)
    line = [sys.executable, "-m", "npusim.cli", "as-runtime", "--", *map(str, words)]
    return subprocess.run(
        line,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    """A folder with another pyruntime_cvi, and a script beside it, which is the first place where Python looks."""
    (tmp_path / "pyruntime_cvi.py").write_text("raise AssertionError('this is the vendor\\'s')\n")
    (tmp_path / "script.py").write_text(SCRIPT.format(model=str(MODEL)))
    return tmp_path


def test_a_script_beside_the_vendors_binding_gets_npusims(vendor: Path) -> None:
    done = npusim(vendor / "script.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x/Relu_output_0_Relu_si8\n", "")


def test_a_wrapper_that_puts_its_own_folder_first_gets_npusims(vendor: Path) -> None:
    """So does the vendor's command on PATH: it starts the tool in a process of its own."""
    wrapper = vendor / "tool"
    wrapper.write_text(
        f"#!{sys.executable}\nimport os, subprocess, sys\n"
        f"os.environ['PYTHONPATH'] = {str(vendor)!r} + os.pathsep + os.environ['PYTHONPATH']\n"
        "sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)\n"
    )
    wrapper.chmod(0o755)
    done = npusim("tool", SCRIPT.format(model=str(MODEL)), PATH=os.pathsep.join([str(vendor), os.environ["PATH"]]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "x/Relu_output_0_Relu_si8\n", "")


def test_another_sitecustomize_is_still_run(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\n")
    done = npusim(sys.executable, "-c", "print('script')", PYTHONPATH=str(tmp_path))
    assert done.stdout.split()[-2:] == ["theirs", "script"]


@pytest.mark.parametrize(("code", "want"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_scripts_own(code: str, want: int) -> None:
    assert npusim(sys.executable, "-c", f"import os, sys, pyruntime_cvi; {code}").returncode == want


def test_a_script_that_never_used_it_is_said_so() -> None:
    done = npusim(sys.executable, "-I", "-c", "print(1)")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr == f"npusim: {sys.executable} never imported pyruntime_cvi, so nothing of it ran on npusim\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is no command to run: name it, as in `npusim as-runtime -- model_deploy.py --help`"),
        (("no_such_tool", "--x"), "there is no command 'no_such_tool' on PATH, nor a Python file of that name"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_code_2(words: tuple[str, ...], message: str) -> None:
    done = npusim(*words)
    assert done.returncode == 2 and done.stderr.startswith(f"npusim: {message}") and done.stderr.count("\n") == 1


def test_a_python_without_npusim_is_named(tmp_path: Path) -> None:
    (tmp_path / "npusim.py").write_text("raise ModuleNotFoundError('No module named npusim', name='npusim')\n")
    (tmp_path / "script.py").write_text("import pyruntime_cvi\n")
    done = npusim(tmp_path / "script.py")
    assert done.returncode == 1
    assert f"{sys.executable} has no module 'npusim': install npusim for that Python" in done.stderr


def test_nothing_finds_the_drop_in_that_was_not_started_with_it() -> None:
    found = subprocess.run([sys.executable, "-c", "import npusim, npusim.compat, pyruntime_cvi"], capture_output=True)
    assert found.returncode == 1 and b"No module named 'pyruntime_cvi'" in found.stderr
