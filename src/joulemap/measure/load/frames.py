"""Messages between a load and its workers: pickled, each behind its length, over pipes.

Only a process and its own children speak this; nothing from outside is ever unpickled.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import BinaryIO

from joulemap.measure.load.plan import LoadPlan
from joulemap.measure.load.target import Target

_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A worker's share of a load."""

    plan: LoadPlan
    target: Target
    worker: int
    workers: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker can start."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start at this monotonic time."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End the load."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker cannot do its share: the error's class, words and fix."""

    error: str
    message: str
    fix: str | None


def write_frame(pipe: BinaryIO, message: object) -> None:
    """Write one message.

    Raises:
        OSError: The other side is gone.
    """
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> object | None:
    """Read one message; ``None`` when the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        return None
    message: object = pickle.loads(data)
    return message
