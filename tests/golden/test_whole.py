"""Written whole or not at all: what a failure leaves, and what is never replaced."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golden.whole import replacing

ROOT = Path(__file__).parents[2]


def write(path: Path, data: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(data)


@given(old=st.none() | st.binary(), new=st.binary(), failure=st.sampled_from([None, OSError, ValueError, SystemExit]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_new_content_or_the_old_is_there_and_nothing_else(
    tmp_path: Path, old: bytes | None, new: bytes, failure: type[BaseException] | None
) -> None:
    path = tmp_path / "out"
    path.unlink(missing_ok=True)
    if old is not None:
        path.write_bytes(old)
    try:
        with replacing(path) as partial:
            partial.write_bytes(new)
            if failure:
                raise failure
    except (OSError, ValueError, SystemExit) as error:
        assert type(error) is failure
        assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])
    else:
        assert failure is None
        assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, new)]


def test_the_place_is_the_same_folder_and_the_name_is_this_processs_own(tmp_path: Path) -> None:
    with replacing(tmp_path / "out.npz") as partial:
        assert partial.parent == tmp_path and str(os.getpid()) in partial.name and not partial.exists()
        partial.touch()


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as partial:
        partial.touch()
    partial.mkdir()
    (partial / "left").touch()
    write(tmp_path / "out", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_directory_takes_the_place_of_none_or_of_an_empty_one(tmp_path: Path) -> None:
    for number in range(2):
        with replacing(tmp_path / f"d{number}") as partial:
            partial.mkdir()
            (partial / "file").write_text("x")
        (tmp_path / "d1").mkdir(exist_ok=True)
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("file"))] == ["d0/file", "d1/file"]


def test_a_directory_that_fails_or_meets_a_full_one_is_removed(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OSError), replacing(tmp_path / "full") as partial:
        partial.mkdir()
        (partial / "file").touch()
    with pytest.raises(ValueError), replacing(tmp_path / "new") as partial:
        partial.mkdir()
        (partial / "file").touch()
        raise ValueError
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["full", "full/mine"]


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if there:
        (folder / "file").write_bytes(b"old")
    (folder / "second").symlink_to("file")
    (tmp_path / "first").symlink_to(Path("folder", "second"))
    write(tmp_path / "first", b"new")
    assert (tmp_path / "first").is_symlink() and (folder / "second").is_symlink()
    assert (folder / "file").read_bytes() == b"new"
    assert sorted(p.name for p in folder.iterdir()) == ["file", "second"]


def test_links_that_go_round_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError):
        write(tmp_path / "a", b"new")


def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe, b"through")
    reader.join()
    assert got == [b"through"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    full = tmp_path / "full"  # a device of our own, so that a mistake here costs nobody's /dev/full
    try:
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        open(full, "wb").close()
    except PermissionError:
        pytest.skip("devices can be made by root only")
    with pytest.raises(OSError, match="No space left"):
        write(full, b"new")
    assert full.is_char_device() and [p.name for p in tmp_path.iterdir()] == ["full"]


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="there is no /dev/stdout")
def test_standard_output_is_written_to_by_its_name_even_where_it_is_a_file(tmp_path: Path) -> None:
    program = "from golden.whole import replacing\nwith replacing('/dev/stdout') as p: p.write_bytes(b'said')"
    with open(tmp_path / "out", "wb") as out:
        before = os.fstat(out.fileno()).st_ino
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, cwd=ROOT)
    assert (tmp_path / "out").read_bytes() == b"said" and (tmp_path / "out").stat().st_ino == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_else_here_puts_a_file_in_anothers_place() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("golden", "kv", "npusim", "reference_model")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.replace", "os.rename", "shutil.move")
    }
    assert found == {"golden/capture.py"}
