"""A file as a sequence of bytes that is read only where it is used, so that weights are never in memory twice."""

from __future__ import annotations

from typing import BinaryIO

from npusim.errors import FileFormatError


class FileBytes:
    """The bytes of an open file from `start` on. A slice is read at once. The file must stay open."""

    __slots__ = ("_file", "_size", "_start")

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        """`file` is seekable; its size is taken now."""
        self._file = file
        self._start = start
        self._size = max(0, file.seek(0, 2) - start)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice) -> memoryview:
        """Raises FileFormatError where the file has become shorter since it was opened."""
        start, stop, step = where.indices(self._size)
        assert step == 1
        self._file.seek(self._start + start)
        data = self._file.read(max(0, stop - start))
        if len(data) < stop - start:
            end = self._start + start + len(data)
            raise FileFormatError(f"it ended at byte {end} while it was read, not at {self._start + self._size}")
        return memoryview(data)

    def behind(self, start: int) -> FileBytes:
        """These bytes from `start` on."""
        return FileBytes(self._file, self._start + start)
