"""``joulemap watch URL``."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.cli.measure_options import MeterOptionsGroup
from joulemap.cli.output import Common, note
from joulemap.cli.watch_lines import line_of
from joulemap.cli.watch_options import BillOptions, PaceOfWatch, WatchedOptions, WatchRequest, watching
from joulemap.errors import EXIT_DONE, install_extra
from joulemap.measure.session.interrupts import SIGNALS, Stop, ended_like_ctrl_c, stopping
from joulemap.watch.agent import Agent
from joulemap.watch.snapshot import Snapshot


def watch(
    url: str,
    /,
    *,
    duration: str | None = None,
    plain: Annotated[bool, Parameter(negative="")] = False,
    server: WatchedOptions | None = None,
    bill: BillOptions | None = None,
    pace: PaceOfWatch | None = None,
    meters: MeterOptionsGroup | None = None,
    common: Common | None = None,
) -> int:
    """Watch a server: joules per token now, where they go, what binds it, and whose requests they were.

    On a terminal this is a live view; elsewhere it prints a line an interval, or with --json an object a line.

    Args:
        url: Address of the server, on this machine.
        duration: End after this time, for example 10min; until Ctrl-C if not given.
        plain: Print lines on a terminal too.
        server: The server, as far as it cannot be asked.
        bill: Whose requests they were.
        pace: How often to look.
        meters: What measures.
        common: Store and output.

    Raises:
        KeyboardInterrupt: The end was asked for before there was anything to show.
    """
    options = common or Common()
    request = WatchRequest(
        url=url,
        server=server or WatchedOptions(),
        bill=bill or BillOptions(),
        pace=pace or PaceOfWatch(),
        meters=meters or MeterOptionsGroup(),
    )
    ends_s = None if duration is None else time.monotonic() + seconds(duration, "--duration")
    live = sys.stdout.isatty() and not (plain or options.json)
    with stopping() as stop, watching(request, options.open()) as agent:
        if live and _has_textual():
            seen = _show(agent, ends_s, stop)
        else:
            seen = _print_lines(agent, ends_s, stop, as_json=options.json)
    # The end was asked for while the meters opened: there is nothing to show.
    if not seen:
        raise KeyboardInterrupt
    if options.json:
        _print_json(agent.snapshot)
    else:
        _print_totals(agent.snapshot)
    return EXIT_DONE


def _has_textual() -> bool:
    try:
        import textual  # noqa: F401 - asked for, not used here
    except ImportError:
        note(f"plain lines, for want of textual: {install_extra('textual')}")
        return False
    return True


def _show(agent: Agent, ends_s: float | None, stop: Stop) -> bool:
    """Show the live view until the end is asked for; return whether there was time to begin."""
    from joulemap.cli.watch_view import show

    seen = False
    # The view has a loop of its own, which an exception ends.
    with suppress(KeyboardInterrupt), ended_like_ctrl_c(*SIGNALS):
        if not stop.is_set():
            seen = True
            show(agent, ends_s)
    return seen


def _print_lines(agent: Agent, ends_s: float | None, stop: Stop, *, as_json: bool) -> bool:
    """Print a line for every interval until the time is over or the end is asked for; return whether any passed."""
    due_s = time.monotonic() + agent.settings.interval_s

    def tell(snapshot: Snapshot) -> None:
        nonlocal due_s
        now_s = time.monotonic()
        if ends_s is not None and now_s >= ends_s:
            stop.set()
        elif now_s >= due_s:
            due_s += agent.settings.interval_s
            if as_json:
                _print_json(snapshot)
            else:
                sys.stdout.write(line_of(snapshot) + "\n")
                sys.stdout.flush()

    return agent.run(stop, tell)


def _print_json(snapshot: Snapshot) -> None:
    sys.stdout.write(json.dumps(snapshot.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def _print_totals(snapshot: Snapshot) -> None:
    from joulemap.cli.watch_totals import print_totals

    print_totals(snapshot)
