"""Files are written whole or not at all: what is left after a failure, and what is never replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_what_a_killed_process_left_is_removed_ten_minutes_later_and_nothing_else(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = {kind: tmp_path / f".{kind}.partial" for kind in (f"out.{killed.pid}", "out.1", f"two.{killed.pid}")}
    for path in left.values():
        path.write_text("half")
        os.utime(path, (0, 0))
    young = tmp_path / f".out.young.{killed.pid}.partial"
    young.write_text("half")
    write(tmp_path / "out", b"whole")
    kept = {path.name for path in (*left.values(), young)} - {f".out.{killed.pid}.partial"}
    assert {path.name for path in tmp_path.iterdir()} == kept | {"out"}
