"""Peak memory of this process."""

from __future__ import annotations

from pathlib import Path


def peak_bytes() -> int:
    """The most memory that this process has had resident at once (Linux: VmHWM).

    Not getrusage's ru_maxrss, in which a process that was started by another one inherits that one's peak."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise OSError("/proc/self/status has no VmHWM")
