"""Reads Parquet that others wrote in a process of its own.

A damaged or hostile file can make Polars allocate without bound, which ends the process and cannot be caught.
In a worker it ends the worker: the file is refused, its neighbours are read by the next worker.

The protocol is one JSON object a line to the worker, and eight bytes of length and a JSON object back.
"""

from __future__ import annotations

import atexit
import json
import select
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import IO, Any

import polars as pl

from joulemap.errors import ImportFileError

MOST_ROWS = 200_000
"""A table with more rows is refused: each row is a run."""
LONGEST_S = 120.0
_CRASHED = "is damaged Parquet: it crashes its reader"


class ParquetWorker:
    """A worker process, started by the first file and again after each that ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def read(self, file: str, tables: list[list[str]]) -> list[dict[str, Any]] | None:
        """Return the rows of a Parquet file; ``None`` if it has the columns of none of the tables.

        Args:
            file: The file.
            tables: The columns that each of the known tables has at least.

        Raises:
            ImportFileError: The file is damaged or has too many rows.
        """
        with self._lock:
            process = self._running()
            try:
                # The worker stays in the folder that it was started in.
                reply = _ask(process, {"file": str(Path(file).absolute()), "tables": tables})
            except (OSError, EOFError, TimeoutError) as error:
                self._end(process)
                raise ImportFileError(file, None, _CRASHED) from error
            except BaseException:
                # Interrupted half-way through a reply: the rest of it must not be taken for the next one.
                self._end(process)
                raise
        if "problem" in reply:
            raise ImportFileError(file, None, str(reply["problem"]))
        rows: list[dict[str, Any]] | None = reply["rows"]
        return rows

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._lock:
            if self._process is not None:
                self._end(self._process)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end(self._process)
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "joulemap.store.importers.parquet_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    # What was still to be written has no reader any more.
                    continue
        self._process = None


def _ask(process: subprocess.Popen[bytes], request: dict[str, Any]) -> dict[str, Any]:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise EOFError
    stdin.write(json.dumps(request).encode() + b"\n")
    stdin.flush()
    if not select.select([stdout], [], [], LONGEST_S)[0]:
        raise TimeoutError
    reply: dict[str, Any] = json.loads(_exactly(stdout, int.from_bytes(_exactly(stdout, 8), "big")))
    return reply


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


WORKER = ParquetWorker()
"""The one worker of this process."""
atexit.register(WORKER.close)


def _serve() -> None:
    """Answer requests until there are no more: what the worker process runs."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        reply = json.dumps(_answer(request["file"], request["tables"])).encode()
        sys.stdout.buffer.write(len(reply).to_bytes(8, "big") + reply)
        sys.stdout.buffer.flush()


def _answer(file: str, tables: list[list[str]]) -> dict[str, Any]:
    try:
        columns = list(pl.read_parquet_schema(file))
        if not any(set(table) <= set(columns) for table in tables):
            return {"rows": None}
        table = pl.read_parquet(file, n_rows=MOST_ROWS + 1)
        if table.height > MOST_ROWS:
            return {"problem": f"has over {MOST_ROWS:,} rows, the most that are read"}
        stamps = [n for n, kind in table.schema.items() if isinstance(kind, pl.Datetime)]
        table = table.with_columns(pl.col(stamps).dt.to_string("iso:strict"))
        # Binary and nested values, but for lists of numbers and texts, are in no column that is wanted.
        plain = [n for n, kind in table.schema.items() if _is_plain(kind)]
        return {"rows": table.select(pl.col(plain)).to_dicts()}
    except (pl.exceptions.PolarsError, OSError, ValueError, MemoryError) as error:
        return {"problem": f"is damaged Parquet: {_first_line(error)}"}
    except BaseException as error:
        # Polars reports some damaged files by a Rust panic, which is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return {"problem": f"is damaged Parquet: {_first_line(error)}"}


def _is_plain(kind: pl.DataType) -> bool:
    inner = kind.inner if isinstance(kind, pl.List) else kind
    return inner in (pl.String, pl.Boolean) or (isinstance(inner, pl.DataType) and inner.is_numeric())


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    line = text.splitlines()[0][:200] if text else type(error).__name__
    return line if line.isprintable() else ascii(line)


if __name__ == "__main__":
    _serve()
