"""Runs a server's command, and ends it with everything that it started as soon as stdin ends.

``python -m joulemap.measure.engines.guard`` reads its orders, one line of JSON, from stdin: ``command``, and
``afterwards``, commands to run when the server is gone. Whoever holds the other end of stdin need not be alive to
close it: the server outlives neither a process that was killed nor one that crashed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

END_WITHIN_S = 10.0


def main() -> None:
    """Run the command until it ends or stdin does."""
    orders = json.loads(sys.stdin.readline())
    try:
        server = subprocess.Popen(orders["command"], stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"{orders['command'][0]}: {error.strerror or error}\n")
        sys.exit(127)
    # The group's leader may end before what it started: the group is ended, whoever is left of it.
    threading.Thread(target=_end_with_stdin, args=(server, orders["afterwards"]), daemon=True).start()
    code = server.wait()
    _clean(server.pid, orders["afterwards"])
    os._exit(code if code >= 0 else 128 - code)


def _end_with_stdin(server: subprocess.Popen[bytes], afterwards: list[list[str]]) -> None:
    while os.read(0, 4096):
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(END_WITHIN_S)
    _clean(server.pid, afterwards)
    os._exit(0)


def _clean(group: int, afterwards: list[list[str]]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for command in afterwards:
        with contextlib.suppress(OSError):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


if __name__ == "__main__":
    main()
