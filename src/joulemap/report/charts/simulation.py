"""The chart of a simulated plan."""

from __future__ import annotations

import altair as alt
import polars as pl

from joulemap.plan.simulate.simulate import PowerResult, Simulation
from joulemap.report.document import WIDE_PX
from joulemap.study.figures.theme import BLUE, INK, Chart, finished, panel_title
from joulemap.units import S_PER_HOUR, W_PER_KW

_AXIS_PX = 60


def simulation_chart(done: Simulation, width_px: int = WIDE_PX) -> Chart:
    """Draw a simulation: each site's facility power over time against the cap."""
    panels = [_power_over_time(p, width_px) for p in done.power]
    over = max(p.over_cap_fraction for p in done.power)
    waits = [d.wait_p99_s for d in done.demands if d.wait_p99_s is not None]
    worst = f"; 99 % of requests start within {max(waits):.2g} s" if waits else ""
    return finished(
        alt.vconcat(*panels, spacing=18),
        finding=f"Facility power is over the cap {over:.2%} of the time{worst}",
        basis=f"{done.requests:,} simulated requests; power as a mean over {_bin_s(done):,.0f} s",
        width_px=width_px,
    )


def _bin_s(done: Simulation) -> float:
    return float(done.power[0].bin_s[1])


def _power_over_time(power: PowerResult, width_px: int) -> Chart:
    data = pl.DataFrame(
        {
            "hour": power.bin_s / S_PER_HOUR,
            "kW": power.bin_mean_w / W_PER_KW,
            "cap": power.bin_cap_w / W_PER_KW,
        }
    )
    x = alt.X("hour:Q", title="Hour")
    level = alt.Chart(data).mark_line(color=BLUE).encode(x, alt.Y("kW:Q", title="Facility power (kW)"))
    cap = (
        alt.Chart(data).mark_line(color=INK, interpolate="step-after", strokeDash=[5, 3]).encode(x, alt.Y("cap:Q"))
    )
    return alt.layer(level, cap).properties(
        width=width_px - _AXIS_PX, height=180, title=panel_title(f"{power.site}: power; the dashed line is the cap")
    )
