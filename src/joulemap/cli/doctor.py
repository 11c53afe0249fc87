"""``joulemap doctor``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from joulemap.cli.output import console, print_json
from joulemap.measure.doctor import Check, Examination, State, examine_machine

if TYPE_CHECKING:
    from rich.text import Text

MARKS = {State.OK: ("✓", "green"), State.LIMITED: ("~", "yellow"), State.ABSENT: ("–", "dim")}


def show_examination(*, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Say what can be measured on this machine, what not, why, and what mends it.

    Args:
        json: Print JSON on standard output.
    """
    examination = examine_machine()
    if json:
        print_json(examination.to_json())
    else:
        _print(examination)


def _print(examination: Examination) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "what", "found", "what mends it"):
        table.add_column(heading, overflow="fold")
    for group, checks in groupby(examination.checks, key=lambda check: check.group):
        table.add_row("", Text(group, style="bold"), "", "")
        for check in checks:
            table.add_row(*_cells(check))
    printer = console()
    printer.print(table)
    basis = examination.energy_basis.value
    printer.print(Text(f"Energies that 'joulemap measure' gives here are {basis}: {examination.energy_source}."))


def _cells(check: Check) -> tuple[Text, ...]:
    from rich.text import Text

    mark, style = MARKS[check.state]
    return Text(mark, style=style), Text(check.name), Text(check.finding), Text(check.fix or "")
