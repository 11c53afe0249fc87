"""``joulemap report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from joulemap.cli.choice_options import LimitOptions, constraints_of
from joulemap.cli.document_view import print_document
from joulemap.cli.output import Common, note, print_json
from joulemap.report.renderers.write import write_report
from joulemap.report.report import report


def report_on(
    *what: str,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    current: str | None = None,
    limits: LimitOptions | None = None,
    common: Common | None = None,
) -> None:
    """Report on a run, on why one costs more than another, on many, on a choice, a plan, or the study.

    Args:
        what: A run (an id, its beginning, or a selector); two of them; a selector of several; a plan file; "study";
            or "frontier" or "recommendation" with a selector of model and task; or "simulation" with a plan file.
        output: Write the report to this .html (one file that opens offline), .md or .json file; as .svg or .png,
            one file a chart. By default it is printed.
        force: Overwrite the file.
        current: Of a recommendation: what is served now, a run id or a selector.
        limits: Of a recommendation: what has to be kept.
        common: Store and output.
    """
    options = common or Common()
    constraints = None if limits is None else constraints_of(limits)
    document = report(*what, store=options.open(), constraints=constraints, current=current)
    if output is not None:
        for path in write_report(document, output, force=force):
            note(f"Wrote {path}")
    if options.json:
        print_json(document.payload)
    elif output is None:
        print_document(document)
