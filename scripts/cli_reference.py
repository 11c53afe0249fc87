"""Write ``docs/cli.md`` from the commands themselves.

Usage: ``python scripts/cli_reference.py [--check]``. With ``--check`` nothing is written; a file that differs
from the commands ends the script with 1.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from joulemap.cli.app import PURPOSE, VERBS, build_app
from joulemap.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_ENVIRONMENT, EXIT_INTERRUPTED

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
EXIT_CODES = {
    EXIT_DONE: "done",
    EXIT_BAD_INPUT: "bad usage or input, or a measurement that could not be completed",
    EXIT_ENVIRONMENT: "this machine lacks something: an optional dependency, runs in the store, the network",
    EXIT_INTERRUPTED: "interrupted; what was complete is kept",
}


def render() -> str:
    """Return the reference as Markdown."""
    documented = build_app().generate_docs()
    verbs = "\n".join(f"| [`{verb}`](#joulemap-{verb}) | {line} |" for verb, (_, line) in VERBS.items())
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    # What stands before the first verb (title, contents) is said better here.
    sections = documented[documented.index("## joulemap ") :].strip()
    return f"""\
# Commands

<!-- Written by scripts/cli_reference.py from the commands themselves; do not edit. -->

{PURPOSE}

| verb | what it does |
|---|---|
{verbs}

Results go to standard output, as JSON with `--json`; notes and progress go to standard error.
How runs are named is told in [Runs and selectors](runs.md).

| exit code | meaning |
|---|---|
{codes}

{sections}
"""


def main() -> None:
    """Write the reference, or check it."""
    wanted = render()
    if "--check" not in sys.argv[1:]:
        REFERENCE.write_text(wanted, encoding="utf-8")
        print(f"Wrote {REFERENCE}")
        return
    found = REFERENCE.read_text(encoding="utf-8")
    if found != wanted:
        lines = difflib.unified_diff(
            found.splitlines(), wanted.splitlines(), "docs/cli.md", "the commands", lineterm=""
        )
        sys.exit("\n".join(lines) + "\n'just cli-reference' brings docs/cli.md up to date")


if __name__ == "__main__":
    main()
