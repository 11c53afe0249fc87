"""A signal that asks for the end is never lost, wherever it arrives."""

from __future__ import annotations

import signal
import time

import pytest

from joulemap.measure.session.interrupts import SIGNALS, stopping


class AsksOnRelease:
    """Gets a signal in its finalizer, where Python drops the exception that a handler raises."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_a_finalizer_counts(number: int) -> None:
    before = signal.getsignal(number)
    with stopping() as stop:
        asks = AsksOnRelease(number)
        assert not stop.is_set()
        del asks
        assert stop.wait(30.0)
    assert signal.getsignal(number) is before


def test_a_signal_ends_the_wait() -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with stopping() as stop:
            began_s = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            assert stop.wait(60.0)
            assert time.monotonic() - began_s < 30.0
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_second_signal_ends_at_once() -> None:
    with stopping() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
