"""Ctrl-C between the first line of the command and its last: it ends quietly, and is not lost.

Three times follow each other. While modules are loaded nothing needs an orderly end, and an exception may be lost
in an import or come out of it as another one, so that the process ends at once. While a verb works, Ctrl-C is the
usual exception, on which blocks are left in order. When the exit code is known, the process ends with it at once.
Outside the command (a notebook, a test) all of this does nothing, as it does where Ctrl-C was switched off.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

INTERRUPTED = 130
"""The exit code; :mod:`joulemap.errors`, which has the others, is not loaded yet when this one is needed."""
AGAIN_S = 0.01
"""Time after which an interrupt that was lost comes again."""

_code: int | None = None
"""The exit code, when it is known."""


def leave_at_once() -> None:
    """Let Ctrl-C end the process at once, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
        atexit.register(_end)


def end_in_order() -> None:
    """Let Ctrl-C be an exception from here on; one that Python cannot pass on comes again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        sys.unraisablehook = _come_again
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_with(code: int) -> None:
    """Let Ctrl-C end the process at once with the code that it is about to end with anyway."""
    global _code
    if signal.getsignal(signal.SIGINT) is _leave or sys.unraisablehook is _come_again:
        _code = code
        signal.signal(signal.SIGINT, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    if _code is None:
        os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)
    os._exit(_code)


def _end() -> None:
    """End the process, after everything else that is to be done at its exit.

    Python's own end lets a signal kill the process again, and so ends with another code.
    """
    if _code is not None:
        for stream in (sys.stdout, sys.stderr):
            # The reader may have gone.
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(_code)


def _come_again(lost: sys.UnraisableHookArgs) -> None:
    """Send an interrupt again that was lost in a finalizer or a callback; show anything else that was."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    import threading

    # Not from here, where it would be lost again, and to the main thread, whose wait it must end.
    main = threading.main_thread().ident
    if main is not None:
        again = threading.Timer(AGAIN_S, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()
