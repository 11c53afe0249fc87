"""``joulemap report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from joulemap.cli.document_view import print_document
from joulemap.cli.output import Common, note, print_json
from joulemap.report.renderers.write import write_report
from joulemap.report.report import report


def report_on(
    *what: str,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Report on a run, or on why one run costs more than another.

    Args:
        what: A run (an id, its beginning, or a selector), or two of them.
        output: Write the report to this .html (one file that opens offline), .md or .json file; as .svg or .png,
            one file a chart. By default it is printed.
        force: Overwrite the file.
        common: Store and output.
    """
    options = common or Common()
    document = report(*what, store=options.open())
    if output is not None:
        for path in write_report(document, output, force=force):
            note(f"Wrote {path}")
    if options.json:
        print_json(document.payload)
    elif output is None:
        print_document(document)
