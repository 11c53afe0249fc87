"""``joulemap budget``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.errors import UsageError
from joulemap.plan.budget import BudgetReport, EnergyBudget, Pairing, Scope, energy_budget
from joulemap.units import J_PER_KWH


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """The budget, and what it is for."""

    joules: float | None = None
    """The budget in joules; or give --kwh or --gco2e."""
    kwh: float | None = None
    """The budget in kilowatt-hours."""
    gco2e: float | None = None
    """The budget in grams of CO2 equivalent, with --carbon-intensity."""
    carbon_intensity: float | None = None
    """Grams of CO2 equivalent per kilowatt-hour."""
    per: Literal["response", "user", "day"] = "response"
    """What the budget is for: one response, or the responses of one user or one day."""
    responses: float | None = None
    """Responses per user or per day."""
    scope: Scope = "gpu"
    """Count the GPUs' energy, or the facility's, with servers and PUE."""
    pue: float = 1.0
    """Power usage effectiveness of the facility."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PairingOptions:
    """What is held against the budget."""

    task: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None
    """Only this task; may be given again."""
    model: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None
    """Only this model; may be given again."""
    gpu: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None
    """Only this GPU model; may be given again; one that was not measured is predicted."""
    itl_limit: str | None = None
    """For text, only configurations with at most this median inter-token latency, such as 50ms."""
    latency_limit: str | None = None
    """For images and videos, only configurations with at most this batch latency, such as 30s."""


def show_budget(
    *,
    allowed: BudgetOptions | None = None,
    pairings: PairingOptions | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    common: Common | None = None,
) -> None:
    """Say which models fit which task within an energy budget, and what must change for the others.

    Args:
        allowed: The budget, and what it is for.
        pairings: What is held against the budget.
        output: Draw the ranking into this .html, .svg or .png file too.
        common: Store and output.
    """
    options, among = common or Common(), pairings or PairingOptions()
    budget = _budget(allowed or BudgetOptions(), among)
    from joulemap.catalog import load_catalog

    catalog = load_catalog()
    report = energy_budget(
        options.open().non_empty_frame(),
        budget,
        tasks=[catalog.task(t).id if t not in catalog.tasks else t for t in among.task or ()],
        models=[catalog.model(m).id for m in among.model or ()],
        gpu_models=[catalog.gpu(g).id for g in among.gpu or ()],
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


def _budget(allowed: BudgetOptions, among: PairingOptions) -> EnergyBudget:
    """Return the budget of one response.

    Raises:
        UsageError: It is none, or more than one.
    """
    itl, latency = among.itl_limit, among.latency_limit
    return EnergyBudget(
        energy_j=_joules(allowed) / _responses(allowed.per, allowed.responses),
        scope=allowed.scope,
        pue=_pue(allowed.pue),
        itl_limit_s=None if itl is None else seconds(itl, "--itl-limit"),
        latency_limit_s=None if latency is None else seconds(latency, "--latency-limit"),
    )


def _joules(allowed: BudgetOptions) -> float:
    given = [x for x in (allowed.joules, allowed.kwh, allowed.gco2e) if x is not None]
    if len(given) != 1:
        msg = "a budget is one of --joules, --kwh and --gco2e"
        raise UsageError(msg, fix="joulemap budget --joules 500")
    if not 0 < given[0] < float("inf"):
        msg = f"a budget must be positive, not {given[0]:g}"
        raise UsageError(msg, fix="joulemap budget --joules 500")
    if allowed.joules is not None:
        return allowed.joules
    if allowed.kwh is not None:
        return allowed.kwh * J_PER_KWH
    intensity = allowed.carbon_intensity
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
