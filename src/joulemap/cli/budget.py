"""``joulemap budget``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.errors import UsageError
from joulemap.plan.budget import BudgetReport, EnergyBudget, Pairing, Scope, energy_budget
from joulemap.units import J_PER_KWH


def show_budget(
    *,
    joules: float | None = None,
    kwh: float | None = None,
    gco2e: float | None = None,
    carbon_intensity: float | None = None,
    per: Literal["response", "user", "day"] = "response",
    responses: float | None = None,
    scope: Scope = "gpu",
    pue: float = 1.0,
    task: Annotated[list[str] | None, Parameter(negative="")] = None,
    model: Annotated[list[str] | None, Parameter(negative="")] = None,
    gpu: Annotated[list[str] | None, Parameter(negative="")] = None,
    itl_limit: str | None = None,
    latency_limit: str | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    common: Common | None = None,
) -> None:
    """Say which models fit which task within an energy budget, and what must change for the others.

    Args:
        joules: The budget in joules; or give --kwh or --gco2e.
        kwh: The budget in kilowatt-hours.
        gco2e: The budget in grams of CO2 equivalent, with --carbon-intensity.
        carbon_intensity: Grams of CO2 equivalent per kilowatt-hour.
        per: What the budget is for: one response, or the responses of one user or one day.
        responses: Responses per user or per day.
        scope: Count the GPUs' energy, or the facility's, with servers and PUE.
        pue: Power usage effectiveness of the facility.
        task: Only this task; may be given again.
        model: Only this model; may be given again.
        gpu: Only this GPU model; may be given again; one that was not measured is predicted.
        itl_limit: For text, only configurations with at most this median inter-token latency, such as 50ms.
        latency_limit: For images and videos, only configurations with at most this batch latency, such as 30s.
        output: Draw the ranking into this .html, .svg or .png file too.
        common: Store and output.
    """
    options = common or Common()
    budget = EnergyBudget(
        energy_j=_joules(joules, kwh, gco2e, carbon_intensity) / _responses(per, responses),
        scope=scope,
        pue=_pue(pue),
        itl_limit_s=None if itl_limit is None else seconds(itl_limit, "--itl-limit"),
        latency_limit_s=None if latency_limit is None else seconds(latency_limit, "--latency-limit"),
    )
    from joulemap.catalog import load_catalog

    catalog = load_catalog()
    report = energy_budget(
        options.open().non_empty_frame(),
        budget,
        tasks=[catalog.task(t).id if t not in catalog.tasks else t for t in task or ()],
        models=[catalog.model(m).id for m in model or ()],
        gpu_models=[catalog.gpu(g).id for g in gpu or ()],
    )
    if output is not None:
        from joulemap.report.charts.budget import budget_chart
        from joulemap.study.figures import save_chart

        save_chart(budget_chart(report), output)
    if options.json:
        print_json(report.to_json())
    else:
        _print(report)
    for text in report.notes:
        note(f"note: {text}")
    if output is not None:
        note(f"Wrote {output}")


def _joules(joules: float | None, kwh: float | None, gco2e: float | None, intensity: float | None) -> float:
    given = [x for x in (joules, kwh, gco2e) if x is not None]
    if len(given) != 1:
        msg = "a budget is one of --joules, --kwh and --gco2e"
        raise UsageError(msg, fix="joulemap budget --joules 500")
    if not 0 < given[0] < float("inf"):
        msg = f"a budget must be positive, not {given[0]:g}"
        raise UsageError(msg, fix="joulemap budget --joules 500")
    if joules is not None:
        return joules
    if kwh is not None:
        return kwh * J_PER_KWH
    if intensity is None or not intensity > 0:
        msg = "a budget in CO2 needs the carbon intensity of the electricity"
        raise UsageError(msg, fix="--gco2e 0.1 --carbon-intensity 350")
    return given[0] / intensity * J_PER_KWH


def _responses(per: str, responses: float | None) -> float:
    if per == "response":
        return 1.0
    if responses is None or not responses > 0:
        msg = f"a budget per {per} needs the number of responses per {per}"
        raise UsageError(msg, fix=f"--per {per} --responses 20")
    return responses


def _pue(pue: float) -> float:
    if not 1 <= pue <= 10:
        msg = f"--pue must lie between 1 and 10, not {pue:g}"
        raise UsageError(msg, fix="--pue 1.2")
    return pue


def _print(report: BudgetReport) -> None:
    b = report.budget
    for task in dict.fromkeys(p.task for p in report.pairings):
        own = [p for p in report.pairings if p.task == task]
        fitting = sum(p.fits for p in own)
        title = f"{task}: {fitting} of {len(own)} models fit {figure(b.energy_j)} J per response ({b.scope})"
        columns = [
            "model",
            "J/response",
            "90 % interval",
            "of budget",
            "configuration",
            "basis",
            "what must change",
        ]
        print_table(title, columns, [_cells(p) for p in own])


def _cells(p: Pairing) -> list[str]:
    e = p.energy_per_request_j
    return [
        p.label,
        figure(e.value),
        f"{figure(e.low)}–{figure(e.high)}",
        f"{p.share_of_budget_ratio:.0%}",
        f"{p.num_gpus} × {p.gpu_model}, batch {figure(p.batch_ceiling)}",
        e.basis.value,
        "fits" if p.fits else "; or ".join(p.changes),
    ]
