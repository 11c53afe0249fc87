"""The ``joulemap`` command, and ``python -m joulemap``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and leave with its exit code; Ctrl-C ends it quietly from here on."""
    try:
        from joulemap.cli.ctrl_c import leave_at_once

        leave_at_once()
    except KeyboardInterrupt:
        # Under way to the handler; what is imported here is little, lest Ctrl-C meet it unprepared.
        sys.exit(130)
    from joulemap.cli.app import main as run_command

    run_command()


# A process of work apart imports this module too, under another name.
if __name__ == "__main__":
    main()
