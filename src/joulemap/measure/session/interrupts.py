"""Signals while something is under way that must not be left half done."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def put_off_interrupts() -> Iterator[None]:
    """Hold Ctrl-C and a request to terminate back until the block is done; they then count.

    Outside the main thread, which alone gets signals, this does nothing.

    Raises:
        KeyboardInterrupt: One of them came meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, remember) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


@contextmanager
def ended_like_ctrl_c(*numbers: signal.Signals) -> Iterator[None]:
    """Let SIGTERM, or the signals given, end the block as Ctrl-C does.

    What is complete is stored, and engines are stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers or (signal.SIGTERM,)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop:
    """Whether the end was asked for; unlike ``threading.Event``, a signal handler may set it at any moment.

    An event's lock may be held by the very thread that the handler interrupts, which would then wait for itself.
    """

    def __init__(self) -> None:
        self._set = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Ask for the end, and wake who waits."""
        self._set = True
        self._wake.put(None)

    def is_set(self) -> bool:
        """Return whether the end was asked for."""
        return self._set

    def wait(self, timeout_s: float) -> bool:
        """Wait at most ``timeout_s`` seconds for the end to be asked for; return whether it was."""
        if not self._set:
            with suppress(queue.Empty):
                self._wake.get(timeout=timeout_s)
        return self._set


@contextmanager
def stopping() -> Iterator[Stop]:
    """Let the first Ctrl-C or request to terminate set what this yields; a further one raises at once.

    An exception raised by a signal is lost where Python cannot pass one on: in a finalizer, or in a callback of the
    garbage collector. What is set here is not.

    Raises:
        KeyboardInterrupt: A further one came.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
