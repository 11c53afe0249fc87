"""Following a growing file of request lines: rotation, truncation, half lines and nonsense included."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import BinaryIO

from joulemap.units import BYTES_PER_MIB
from joulemap.watch.requests import AccountFields, LineError, ServedRequest, request_of

BYTES_A_POLL = 4 * BYTES_PER_MIB
"""Read at a time; what is left waits for the next time."""
LONGEST_LINE_BYTES = 65_536
"""A longer line is no log line; it is skipped."""


class RequestLog:
    """Follows a file from its end on; a file that is not there yet is read from its begin once it is.

    Args:
        file: JSON lines, one finished request each.
        fields: Which field names the account.
    """

    def __init__(self, file: Path, fields: AccountFields | None = None) -> None:
        self.file = file
        self._fields = fields or AccountFields()
        self._open: BinaryIO | None = None
        self._identity: tuple[int, int] | None = None
        self._rest = b""
        self._skipping = False
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        """Lines that were no finished request, by reason."""
        self.error: str | None = None
        """Why the file cannot be read now."""
        self._reopen(at_end=True)

    def poll(self) -> list[ServedRequest]:
        """Return the requests that were logged since the last time."""
        data = self._read()
        if self._rotated():
            data += self._read()  # what came between the last read and the rotation
            self._reopen(at_end=False)
            data += b"\n" + self._read() if self._open is not None else b""
        elif self._open is None:
            self._reopen(at_end=False)
            data += self._read()
        return self._requests(data)

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _reopen(self, *, at_end: bool) -> None:
        self.close()
        try:
            self._open = self.file.open("rb")
            stat = self.file.stat()
            self._identity = (stat.st_dev, stat.st_ino)
            if at_end:
                self._open.seek(0, 2)
            self.error = None
        except OSError as error:
            self.error = f"{self.file} cannot be read: {error.strerror or error}"
            self.close()

    def _rotated(self) -> bool:
        """Return whether another file has the name, or the file is shorter than what was read of it."""
        if self._open is None:
            return False
        try:
            stat = self.file.stat()
        except OSError:
            return False  # moved away; the next one is not there yet
        return (stat.st_dev, stat.st_ino) != self._identity or stat.st_size < self._open.tell()

    def _read(self) -> bytes:
        if self._open is None:
            return b""
        try:
            return self._open.read(BYTES_A_POLL)
        except OSError as error:
            self.error = f"{self.file} cannot be read: {error.strerror or error}"
            self.close()
            return b""

    def _requests(self, data: bytes) -> list[ServedRequest]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            self._rest, self._skipping = b"", True
        found = []
        for line in lines:
            if self._skipping:
                # The end of a line whose begin was too long to keep.
                self._skipping = False
                self.rejected["line too long"] += 1
                continue
            if not line.strip():
                continue
            try:
                if len(line) > LONGEST_LINE_BYTES:
                    reason = "line too long"
                    raise LineError(reason)
                found.append(request_of(line, self._fields))
            except LineError as error:
                self.rejected[str(error)] += 1
        self.accepted += len(found)
        return found
