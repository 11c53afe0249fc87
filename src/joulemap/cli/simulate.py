"""``joulemap simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from joulemap.cli.output import Common, console, figure, note, print_json, print_table
from joulemap.cli.plan import changed
from joulemap.cli.progress import LateProgress
from joulemap.errors import UsageError
from joulemap.plan.fleet import plan_fleet
from joulemap.plan.plan_file import read_plan
from joulemap.plan.simulate.arrivals import read_load_curve, read_trace
from joulemap.plan.simulate.simulate import DemandResult, Load, Simulation, simulate_plan
from joulemap.units import J_PER_KWH, S_PER_HOUR, W_PER_KW


def simulate_from_file(
    plan: Path,
    /,
    *,
    arrivals: Literal["poisson", "gamma", "even"] = "poisson",
    variation: float | None = None,
    trace: Path | None = None,
    curve: Path | None = None,
    workload: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    common: Common | None = None,
) -> None:
    """Plan a fleet and replay requests through it: limits held, queues, power against the cap, energy.

    Args:
        plan: A plan file (TOML), as for joulemap plan.
        arrivals: How requests arrive at each hour's rate.
        variation: Coefficient of variation of the time between arrivals; gamma's is 2 if not given.
        trace: Replay this trace instead (CSV with TIMESTAMP and GeneratedTokens), at each demand's rate.
        curve: Vary the rate by this load curve (CSV with t_s and rate_rps).
        workload: Which workload of the load curve.
        confidence: Plan with pessimistic powers and throughputs, instead of the file's, for example 0.9.
        seed: Of the random numbers.
        output: Draw the simulation into this .html, .svg or .png file too.
        common: Store and output.
    """
    options = common or Common()
    if variation is not None and not 0 <= variation <= 100:
        msg = f"--variation must lie between 0 and 100, not {variation:g}"
        raise UsageError(msg, fix="--variation 2")
    if seed < 0:
        msg = f"--seed must be 0 or more, not {seed}"
        raise UsageError(msg, fix="--seed 0")
    spec = changed(read_plan(plan), None, confidence)
    load = Load(
        variation={"poisson": 1.0, "gamma": 2.0, "even": 0.0}[arrivals] if variation is None else variation,
        trace=None if trace is None else read_trace(trace),
        curve=None if curve is None else read_load_curve(curve, workload),
        seed=seed,
    )
    fleet = plan_fleet(spec, options.open().non_empty_frame(), marginals=False)
    with LateProgress() as shown:
        done = simulate_plan(
            spec,
            fleet,
            load,
            progress=lambda demand, so_far, total: shown.update(f"requests of {demand}", so_far, total),
        )
    if output is not None:
        from joulemap.report.charts.simulation import simulation_chart
        from joulemap.study.figures import save_chart

        save_chart(simulation_chart(done), output)
    if options.json:
        print_json({**done.to_json(), "plan": fleet.to_json()})
    else:
        _print(done)
    if output is not None:
        note(f"Wrote {output}")


def _print(done: Simulation) -> None:
    console().print(
        f"{done.requests:,} requests in {done.length_s / S_PER_HOUR:g} h of simulated time ({done.basis.value})\n"
    )
    rows = [_cells(d) for d in done.demands]
    columns = ["demand", "requests", "unserved", "wait p99", "TTFT p50", "p99", "ITL p50", "latency", "batch"]
    print_table("requests (times in s)", [*columns, "J/request", "limits held"], rows)
    rows = [
        [
            p.site,
            *(f"{watts / W_PER_KW:,.1f}" for watts in (p.cap_w, p.mean_w, p.p95_w, p.p99_w, p.most_w)),
            f"{p.over_cap_fraction:.2%}",
            figure(p.facility_energy_j / J_PER_KWH),
        ]
        for p in done.power
    ]
    columns = ["site", "cap kW", "mean kW", "p95", "p99", "most", "time over cap", "facility kWh"]
    print_table("facility power", columns, rows)
    for text in done.notes:
        note(f"note: {text}")


def _cells(d: DemandResult) -> list[str]:
    times = (d.wait_p99_s, d.ttft_median_s, d.ttft_p99_s, d.itl_median_s, d.latency_mean_s)
    held = ", ".join(f"{name} {share:.1%}" for name, share in d.held.items())
    return [
        d.demand,
        f"{d.requests:,}",
        f"{d.unserved_requests:,}",
        *(figure(value) for value in times),
        figure(d.mean_batch),
        figure(d.gpu_energy_per_request_j),
        held or "–",
    ]
