"""``joulemap breakdown``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.diagnose.breakdown import Breakdown, BreakdownRow, By, Per, Statistic, breakdown
from joulemap.store.selector import filtered, parse_selector, select

_SPARE = ("runs", "models", "output/s/W", "J/output", "J/response", "tokens", "same models", "batch", "range")
"""Headings that a narrow terminal does without, the first first; but what is compared stays."""


def break_down(
    selector: str = "",
    /,
    *,
    by: By = "task",
    at: Literal["min-energy"] = "min-energy",
    per: Per = "response",
    itl_limit: str | None = None,
    latency_limit: str | None = None,
    task: Annotated[list[str] | None, Parameter(negative="")] = None,
    gpu: str | None = None,
    chart: Path | None = None,
    common: Common | None = None,
) -> None:
    """Compare energy by task, model, GPU, precision, batch or modality.

    Each model counts with its configuration of least energy per output; values are means over models.

    Args:
        selector: Which runs, for example gpu=B200,precision=fp8; all if not given.
        by: What to compare.
        at: Which configuration of each model.
        per: Compare energy per response or per output (token, image, video).
        itl_limit: For text, only configurations with at most this median inter-token latency, such as 50ms.
        latency_limit: For images and videos, only configurations with at most this batch latency, such as 30s.
        task: Only this task; may be given again.
        gpu: Only this GPU model.
        chart: Draw a chart into this .svg, .png or .html file too.
        common: Store and output.
    """
    _ = at  # the only choice so far; limits narrow what it chooses from
    options = common or Common()
    frame = options.open().non_empty_frame()
    result = breakdown(
        _selected(frame, selector, tasks=task or [], gpu=gpu),
        by=by,
        per=per,
        itl_limit_s=None if itl_limit is None else seconds(itl_limit, "--itl-limit"),
        latency_limit_s=None if latency_limit is None else seconds(latency_limit, "--latency-limit"),
    )
    if chart is not None:
        # First, so that a chart that cannot be drawn fails the command before it prints anything.
        from joulemap.study.figures import save_chart
        from joulemap.study.figures.breakdown import breakdown_chart

        save_chart(breakdown_chart(result), chart)
    if options.json:
        print_json(result.to_json())
    else:
        _print_rows(result)
    for reason, count in result.left_out.items():
        note(f"{count:,} {'run' if count == 1 else 'runs'} left out: {reason}")
    if chart is not None:
        note(f"Wrote {chart}")


def _selected(frame: pl.DataFrame, selector: str, *, tasks: list[str], gpu: str | None) -> pl.DataFrame:
    """Return the runs that are asked for, invalid ones too."""
    common = ",".join(filter(None, (selector, f"gpu={gpu}" if gpu else "")))
    parts = []
    for text in [",".join(filter(None, (common, f"task={task}"))) for task in tasks] or [common]:
        parsed = parse_selector(text)
        found = filtered(frame, parsed)
        if found.is_empty():
            select(frame, parsed)  # says what emptied it
        parts.append(found)
    return pl.concat(parts).unique("run_id", keep="first", maintain_order=True)


def _print_rows(result: Breakdown) -> None:
    with_task = any(row.task for row in result.rows)
    by_output = result.compared == "energy_per_output_j"
    compared = "J/output" if by_output else "J/response"
    columns = [
        *(["task"] if with_task else []),
        result.by,
        compared,
        "range",
        "ratio",
        "same models",
        "J/response" if by_output else "J/output",
        "output",
        "tokens",
        "batch",
        "output/s/W",
        "models",
        "runs",
        "basis",
    ]
    rows = [_cells(row, result.compared, with_task=with_task) for row in result.rows]
    spare = [name for name in _SPARE if name not in {compared, result.by}]
    print_table("", columns, rows, left=2 if with_task else 1, spare=spare)
    note(
        "means over each model's configuration of least energy per output; range: lowest and highest of these; "
        "ratio: to the cheapest row; same models: the same over the models that both rows have"
    )


def _cells(row: BreakdownRow, compared: str, *, with_task: bool) -> list[str]:
    q = row.quantities
    energy = q[compared]
    other = q["energy_per_output_j" if compared == "energy_per_request_j" else "energy_per_request_j"]
    same = f"{_ratio(row.same_models_ratio)} ({row.same_models})" if row.same_models else "–"
    return [
        *([row.task or ""] if with_task else []),
        row.group,
        _value(energy),
        f"{figure(energy.low)} – {figure(energy.high)}" if energy and energy.low is not None else "–",
        _ratio(row.ratio),
        same,
        _value(other),
        row.output_unit,
        _value(q["mean_output_tokens"]),
        _value(q["batch_size"]),
        _value(q["throughput_per_watt"]),
        str(row.models),
        f"{row.runs:,}",
        energy.basis.value if energy else "–",
    ]


def _value(statistic: Statistic | None) -> str:
    return figure(statistic.value if statistic else None)


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:,.0f}x"
