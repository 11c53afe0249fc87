"""``joulemap frontier``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from joulemap.cli.choice_options import REPEATABLE, ScopeOptions, scope_of
from joulemap.cli.duration import seconds
from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.errors import UsageError
from joulemap.optimize.candidates import candidates
from joulemap.optimize.choice import words
from joulemap.optimize.same_batch import SameBatch
from joulemap.optimize.tradeoff import Comparison, Frontier, TimeAxis, compare, frontier_among
from joulemap.units import MS_PER_S

if TYPE_CHECKING:
    from joulemap.optimize.candidates import Candidates


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Two frontiers side by side."""

    compare: Annotated[tuple[str, ...], REPEATABLE] = ()
    """A selector such as gpu=H100; give it twice."""
    at: Annotated[tuple[str, ...], REPEATABLE] = ()
    """A limit of time such as 50ms at which least energies are compared; may be given again."""


def show_frontier(
    *,
    model: str,
    task: str,
    x: TimeAxis | None = None,
    scope: ScopeOptions | None = None,
    sides: CompareOptions | None = None,
    chart: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    common: Common | None = None,
) -> None:
    """Show which configurations of a model nothing beats in time and energy at once.

    Args:
        model: Model id or nickname; its siblings in other precisions belong to it.
        task: A task of the store, for example gpqa.
        x: The time axis: itl (default for text), latency (default for pictures and video) or throughput.
        scope: What is looked at.
        sides: Two frontiers to compare.
        chart: Draw the frontier into this .html, .svg or .png file too.
        common: Store and output.
    """
    options = common or Common()
    store = options.open()
    found = candidates(store.frame, scope_of(model, task, scope or ScopeOptions()))
    asked = sides or CompareOptions()
    if asked.compare:
        limits = [seconds(text, "--at") for text in asked.at]
        _show_comparison(compare(found, asked.compare, x=x, limits=limits), chart, options)
    elif asked.at:
        msg = "--at compares two selections, and none are given"
        raise UsageError(msg, fix="--compare gpu=H100 --compare gpu=B200 --at 50ms")
    else:
        _show(found, x, chart, options)


def _show(found: Candidates, x: TimeAxis | None, chart: Path | None, options: Common) -> None:
    shown = frontier_among(found, found.table, x)
    _draw({"": shown}, chart)
    if options.json:
        print_json(shown.to_json())
        return
    _print_points(f"{shown.model} · {shown.task}", shown)
    _print_pairs(shown.same_batch)
    _print_notes(shown)


def _show_comparison(found: Comparison, chart: Path | None, options: Common) -> None:
    _draw({found.a_label: found.a, found.b_label: found.b}, chart)
    if options.json:
        print_json(found.to_json())
        return
    for label, side in ((found.a_label, found.a), (found.b_label, found.b)):
        _print_points(f"{side.model} · {side.task} · {label}", side)
    rows = [
        [
            _time(limit.limit_s),
            figure(limit.a_j_per_output),
            figure(limit.b_j_per_output),
            _ratio(limit.energy_ratio),
        ]
        for limit in found.limits
    ]
    unit = f"J/{found.a.output_unit}"
    if rows:
        columns = ["time at most", f"{found.a_label} ({unit})", f"{found.b_label} ({unit})", "ratio"]
        print_table("least energy under a limit", columns, rows)
    _print_notes(found.a)
    volumes = f"{found.a.hypervolume:.3f} ({found.a_label}) against {found.b.hypervolume:.3f} ({found.b_label})"
    note(f"hypervolume with that reference: {volumes}; more is better")


def _draw(frontiers: Mapping[str, Frontier], chart: Path | None) -> None:
    if chart is None:
        return
    # First, so that a chart that cannot be drawn fails the command before it prints anything.
    from joulemap.report.charts.frontier import frontier_chart
    from joulemap.study.figures import save_chart

    save_chart(frontier_chart(frontiers), chart)
    note(f"Wrote {chart}")


def _print_points(title: str, shown: Frontier) -> None:
    token = shown.output_unit == "token"
    columns = [
        *("configuration", "", "median ITL" if token else "batch latency", "p99 ITL" if token else "power"),
        *(f"{shown.output_unit}/s", f"J/{shown.output_unit}", "90 % interval", "basis"),
    ]
    rows = [_cells(row, token=token) for row in shown.points.iter_rows(named=True)]
    print_table(f"{title}: {len(rows)} of {shown.table.height} configurations are on the frontier", columns, rows)


def _cells(row: Mapping[str, Any], *, token: bool) -> list[str]:
    return [
        words(row),
        "knee" if row["knee"] else "",
        _time(row["itl_median_s"] if token else row["latency_median_s"]),
        _time(row["itl_p99_s"]) if token else f"{figure(row['power_w'])} W",
        figure(row["output_throughput_per_s"]),
        figure(row["energy_per_output_j"]),
        f"{figure(row['energy_per_output_j_low'])}–{figure(row['energy_per_output_j_high'])}",
        row["basis"],
    ]


def _print_pairs(pairs: tuple[SameBatch, ...]) -> None:
    rows = [
        [
            pair.gpu_model,
            f"{pair.more} against {pair.fewer}",
            f"{len(pair.batches)}",
            _ratio(pair.energy_ratio),
            _ratio(pair.latency_ratio),
            _ratio(pair.best_energy_ratio),
            f"{pair.fewer_largest_batch:g} → {pair.more_largest_batch:g}",
            "–" if pair.pays_from_batch is None else f"{pair.pays_from_batch:g}",
            pair.verdict,
        ]
        for pair in pairs
    ]
    if rows:
        columns = [
            *("GPU", "series", "same batches", "energy there", "latency there", "energy at own best"),
            *("largest batch", "pays from batch", "so it"),
        ]
        print_table("at the same batch, and at their own best (measured)", columns, rows, left=2)


def _print_notes(shown: Frontier) -> None:
    reference = f"{_time(shown.reference_s)} and {figure(shown.reference_j_per_output)} J/{shown.output_unit}"
    note(f"hypervolume {shown.hypervolume:.3f} in logarithms of time and energy, up to {reference}")
    for text in shown.notes:
        note(f"note: {text}")


def _time(value_s: float | None) -> str:
    if value_s is None:
        return "–"
    return f"{figure(value_s * MS_PER_S)} ms" if value_s < 1.0 else f"{figure(value_s)} s"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}x"
