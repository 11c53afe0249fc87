"""``joulemap show RUN``."""

from __future__ import annotations

from collections.abc import Iterator

from joulemap.cli.output import Common, console, figure, print_json
from joulemap.diagnose.explain import label
from joulemap.records import Run
from joulemap.records.measured import present
from joulemap.report.payloads.run_record import run_json, stated
from joulemap.store.schema import row_to_run
from joulemap.store.selector import find_run


def show_run(run: str, /, *, common: Common | None = None) -> None:
    """Show everything that is known of one run.

    Args:
        run: A run id (its beginning is enough), or a selector that names one run.
        common: Store and output.
    """
    options = common or Common()
    row = find_run(options.open(), run)
    record = row_to_run(row)
    if options.json:
        print_json(run_json(record))
        return
    out = console()
    out.print(f"{label(row)}  [{record.run_id}]\n")
    for heading, lines in _sections(record):
        out.print(heading)
        for line in lines:
            out.print(f"  {line}", soft_wrap=True)
        out.print()


def _sections(run: Run) -> Iterator[tuple[str, list[str]]]:
    yield "workload", [f"{name:<28}{_text(value)}" for name, value in stated(run.workload).items()]
    yield "deployment", [f"{name:<28}{_text(value)}" for name, value in stated(run.deployment).items()]
    lines = []
    for name in present(run.measured):
        quantity = run.quantity(name)
        if quantity is None:
            continue
        interval = "" if quantity.low is None else f" [{figure(quantity.low)}–{figure(quantity.high)}]"
        lines.append(f"{name:<28}{figure(quantity.value, 4)} {quantity.unit}{interval}  {quantity.basis.value}")
    lines += [f"{name:<28}–  ({reason})" for name, reason in run.annotations.missing.items()]
    yield "quantities (over the steady-state window)", lines
    verdict = "valid" if run.validity.valid else "INVALID"
    yield "validity", ["; ".join([verdict, *run.validity.reasons])]
    yield "provenance", [f"{name:<28}{_text(value)}" for name, value in stated(run.provenance).items() if value]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return figure(value, 4) if isinstance(value, float) else str(value)
