"""``joulemap compare-gpus``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.cli.output import Common, console, figure, note, print_json, print_table
from joulemap.errors import UsageError
from joulemap.plan.plan_file import read_plan
from joulemap.plan.procurement import Comparison, Match, compare_gpus

_SHOWN = 12


def compare_gpu_models(
    plan: Path | None = None,
    /,
    *,
    gpus: str = "H100,B200",
    task: Annotated[list[str] | None, Parameter(negative="")] = None,
    latency_limit: Annotated[list[str] | None, Parameter(negative="")] = None,
    slo_scale: Annotated[list[float] | None, Parameter(negative="")] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    common: Common | None = None,
) -> None:
    """Compare GPU models: least energy at matched latency, and what a fleet of each serves under a cap.

    Args:
        plan: A plan file (TOML), to fill its caps (or spend its money) with each GPU model alone.
        gpus: Two or more GPU models; one that was not measured is predicted.
        task: Only this task; may be given again.
        latency_limit: Compare at this limit, such as 50ms, on the median inter-token latency (images and videos:
            the latency of a batch); may be given again.
        slo_scale: Multiply the plan's limits on latency by this; may be given again.
        output: Draw the comparison into this .html, .svg or .png file too.
        common: Store and output.
    """
    options = common or Common()
    wrong = [scale for scale in slo_scale or () if not 0 < scale < math.inf]
    if wrong:
        msg = f"--slo-scale must be positive, not {wrong[0]:g}"
        raise UsageError(msg, fix="--slo-scale 0.5")
    found = compare_gpus(
        options.open().non_empty_frame(),
        [g.strip() for g in gpus.split(",") if g.strip()],
        tasks=task or (),
        limits_s=[seconds(x, "--latency-limit") for x in latency_limit or ()],
        spec=None if plan is None else read_plan(plan),
        slo_scales=slo_scale or (1.0,),
    )
    if output is not None:
        from joulemap.report.charts.gpu_comparison import comparison_chart
        from joulemap.study.figures import save_chart

        save_chart(comparison_chart(found), output)
    if options.json:
        print_json(found.to_json())
    else:
        _print(found)
    for text in found.notes:
        note(f"note: {text}")
    if output is not None:
        note(f"Wrote {output}")


def _print(found: Comparison) -> None:
    if found.fleets:
        rows = [
            [
                f.gpu_model,
                f"{f.slo_scale:g}",
                f"{f.served_fraction:.1%}",
                figure(f.value),
                figure(f.facility_j_per_output),
                f"{f.gpus:,}",
                *(figure(x) for x in (f.capital_usd, f.electricity_usd_per_year, f.ownership_usd_per_year)),
                f.basis.value,
            ]
            for f in found.fleets
        ]
        columns = [
            "GPU",
            "limits ×",
            "served",
            "value",
            "facility J/output",
            "GPUs",
            "USD to buy",
            "USD/a electricity",
        ]
        print_table("a fleet of one GPU model under the plan's caps", [*columns, "USD/a owned", "basis"], rows)
        for text in dict.fromkeys(f"{f.gpu_model}: {f.note}" for f in found.fleets if f.note):
            note(f"note: {text}")
    rows = [
        [
            d.task,
            f"{d.newer} against {d.older}",
            f"{d.wins} of {d.pairs}",
            *(f"{x:+.0%}" for x in (d.median_change_ratio, d.least_change_ratio, d.most_change_ratio)),
        ]
        for d in found.duels
    ]
    columns = ["task", "GPUs", "takes less energy in", "median", "from", "to"]
    print_table("energy per output at matched latency", columns, rows, left=2)
    older = [m for m in found.matches if m.best != _newest(found, m)]
    rows = [
        [m.task, m.label, f"≤ {m.limit_s:g} s", *(_side(m, g) for g in found.gpu_models)]
        for m in sorted(older, key=_advantage, reverse=True)[:_SHOWN]
    ]
    title = f"where an older GPU takes less energy ({len(older)} of {len(found.matches)}; J/output)"
    print_table(title, ["task", "model", "limit", *found.gpu_models], rows, left=3)
    out = console()
    for c in found.counts[:_SHOWN]:
        out.print(
            f"{c.label} on {c.gpu_model}, {c.task}: {c.num_gpus} GPUs take {c.saved_fraction:.0%} less energy than "
            f"{c.fewest_gpus}"
        )
    if found.fp8_first_wins_at_batch is not None:
        most = found.fp8_wins_most_from_batch
        mostly = "" if most is None else f", and in most pairs at batch {most:.0f}"
        out.print(f"FP8 first takes less energy than 16 bits at batch {found.fp8_first_wins_at_batch:.0f}{mostly}")


def _newest(found: Comparison, match: Match) -> str:
    order = [d.newer for d in found.duels] + [d.older for d in found.duels]
    there = {s.gpu_model for s in match.sides}
    beaten = {(d.newer, d.older) for d in found.duels}
    return next(g for g in order if g in there and not any((x, g) in beaten for x in there))


def _advantage(match: Match) -> float:
    energies = sorted(s.energy_per_output_j for s in match.sides)
    return energies[1] / energies[0]


def _side(match: Match, gpu: str) -> str:
    side = next((s for s in match.sides if s.gpu_model == gpu), None)
    if side is None:
        return "–"
    mark = "" if side.basis.value == "measured" else f" {side.basis.value}"
    return f"{figure(side.energy_per_output_j)} ({side.num_gpus} × batch {figure(side.batch_ceiling)}){mark}"
