"""``joulemap runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
from cyclopts import Parameter

from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.errors import UnknownNameError, UsageError
from joulemap.store.export import export_runs, to_records
from joulemap.store.schema import COLUMNS, energy_basis
from joulemap.store.selector import SELECTION_COLUMNS, filtered, parse_selector

TABLE_COLUMNS = {
    "run_id": "run",
    "task": "task",
    "nickname": "model",
    "gpu_model": "GPU",
    "num_gpus": "GPUs",
    "weight_precision": "precision",
    "max_num_seqs": "ceiling",
    "batch_size": "batch",
    "energy_per_output_j": "J/output",
    "energy_per_request_j": "J/response",
    "power_w": "W",
    "itl_median_s": "ITL s",
}
"""Columns of the console table, with their headings."""
ENERGY_IS = "energy is"
"""Heading of the basis of a row's energies."""
_SPARE = ("ITL s", "precision", "J/response", "ceiling", "W", "GPUs")
"""Headings that a narrow terminal does without, the first first."""
_ROWS_SHOWN = 40


def list_runs(
    selector: str = "",
    /,
    *,
    sort: str | None = None,
    descending: Annotated[bool, Parameter(negative="")] = False,
    columns: str | None = None,
    limit: int | None = None,
    include_invalid: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """List the runs of the store.

    Args:
        selector: Which runs, for example task=gpqa,gpu=B200; all if not given.
        sort: Column to sort by.
        descending: Largest first.
        columns: Columns to show, joined by commas.
        limit: Show at most this many.
        include_invalid: Show invalid runs too.
        output: Write to a file instead: .csv, .parquet or .json.
        force: Overwrite the output file.
        common: Store and output.
    """
    options = common or Common()
    chosen = _columns(columns)
    if sort is not None:
        _check(sort)
    store = options.open()
    store.non_empty_run_ids()
    # Of a large store, only what choosing needs is read of every run.
    frame = store.columns(dict.fromkeys([*SELECTION_COLUMNS, *filter(None, [sort])]))
    invalid = frame.filter(~pl.col("valid")).height
    found = filtered(frame if include_invalid else frame.filter(pl.col("valid")), parse_selector(selector))
    if sort is not None:
        found = found.sort(sort, descending=descending, nulls_last=True)
    if limit is not None:
        if limit < 1:
            msg = f"--limit {limit} shows nothing"
            raise UsageError(msg, fix="give a number of 1 or more")
        found = found.head(limit)
    if output is not None:
        note(f"Wrote {export_runs(store.rows(found['run_id'], chosen), output, force=force)}")
    elif options.json:
        print_json(to_records(store.rows(found["run_id"], chosen)))
    else:
        shown = store.rows((found.head(_ROWS_SHOWN) if limit is None else found)["run_id"])
        names = chosen or list(TABLE_COLUMNS)
        # A model without a nickname shows under its id.
        table = shown.with_columns(nickname=pl.coalesce("nickname", "model_id")).select(names)
        headings = [TABLE_COLUMNS.get(name, name) for name in names]
        rows = [[_cell(value) for value in row] for row in table.iter_rows()]
        if chosen is None:
            headings.append(ENERGY_IS)
            rows = [[*row, basis] for row, basis in zip(rows, energy_basis(shown), strict=True)]
        print_table("", headings, rows, left=3, spare=() if chosen else _SPARE)
        rest = found.height - shown.height
        more = f" ({rest} more: --limit {found.height}, --json or -o FILE)" if rest else ""
        note(f"{found.height} of {frame.height} runs{more}")
    if invalid and not include_invalid:
        note(f"{invalid} invalid runs are left out; --include-invalid shows them")


def _columns(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        _check(name)
    if not names:
        msg = "--columns names no column"
        raise UsageError(msg, fix="for example --columns run_id,task,energy_per_output_j")
    return list(dict.fromkeys(names))


def _check(column: str) -> None:
    if column not in COLUMNS:
        kind = "column"
        raise UnknownNameError(kind, column, COLUMNS)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return figure(value)
    return "–" if value is None else str(value)
