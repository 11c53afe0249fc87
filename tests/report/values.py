"""Small values made by hand, so that the golden charts change with the charts, not with the calibration."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import polars as pl

from joulemap.diagnose.diagnosis import AboveIdeal, Bound, Change, Diagnosis, Finding, LedgerPart, Part
from joulemap.diagnose.explanation import Explanation, Factor
from joulemap.optimize.tradeoff import Frontier
from joulemap.plan.fleet import Assignment, FleetPlan, Service, SitePower
from joulemap.plan.simulate.simulate import DemandResult, PowerResult, Simulation
from joulemap.records import Basis, Quantity
from joulemap.report.payloads.curves import Curve
from joulemap.report.payloads.timeline import RunTimeline, Trace


def diagnosis(*, scale: float = 1.0, run_id: str | None = "abcdef012345") -> Diagnosis:
    """Return a diagnosis of 1 J/token, or of ``scale`` of that, of which weights take half."""
    parts = {Part.WEIGHT_TRAFFIC: 0.5, Part.KV_TRAFFIC: 0.25, Part.STATIC_STARVED: 0.125, Part.UNEXPLAINED: 0.125}
    return Diagnosis(
        run_id=run_id,
        label="Model 8B · chat · 1x H100 · batch 8",
        output_unit="token",
        latents={
            "batch_size": Quantity(value=8.0, unit="request", basis=Basis.MEASURED),
            "memory_available_bytes": Quantity(value=64e9, unit="B/GPU", basis=Basis.MODELLED, low=4e10, high=8e10),
            "starved_fraction": Quantity(value=0.2, unit="1", basis=Basis.MODELLED),
        },
        missing_latents={"sm_occupancy": "no counter was read"},
        ledger=tuple(
            LedgerPart(
                part=part, joules_per_output=j * scale, low=0.9 * j, high=1.1 * j * scale, basis=Basis.MODELLED
            )
            for part, j in parts.items()
        ),
        total_j_per_output=scale,
        total_basis=Basis.MEASURED,
        ideal_j_per_output=0.5 * scale,
        above_ideal=(AboveIdeal(name="batch", ratio=2.0),),
        bound_by=Bound.MEMORY_CAPACITY,
        bound_margin=1.5,
        next_bound=Bound.HOST,
        findings=(
            Finding(
                name="batch_ceiling_memory",
                cause="the batch ends where memory does",
                evidence=("8 requests ran together",),
                lever="hold less cache per request",
                change=Change(energy_ratio=0.8, energy_ratio_min=0.7, energy_ratio_max=0.9, latency_ratio=1.1),
                confidence=0.9,
                weight=0.2,
                falsified_by="free blocks while requests wait",
            ),
        ),
    )


def explanation() -> Explanation:
    """Return an explanation of 6x: 4x tokens, 2x task, 0.75x batch."""
    return Explanation(
        a="aaaaaaaaaaaa",
        b="bbbbbbbbbbbb",
        a_label="A's configuration",
        b_label="B's configuration",
        quantity="energy_per_request_j",
        unit="J/request",
        a_value=600.0,
        b_value=100.0,
        ratio=6.0,
        factors=(
            Factor(name="output_tokens", cause="4x tokens", ratio=4.0, basis=Basis.MEASURED, evidence=("aaaa",)),
            Factor(
                name="task_at_same_batch",
                cause="longer context",
                ratio=2.0,
                basis=Basis.INTERPOLATED,
                evidence=("aaaa", "bbbb"),
                low=1.6,
                high=2.5,
                parts={"power": 0.8, "time_per_output": 2.5},
            ),
            Factor(name="batch", cause="higher batch", ratio=0.5, basis=Basis.MODELLED, evidence=()),
        ),
        unexplained_ratio=1.5,
        notes=("1.5x of the ratio lies beyond the interval",),
    )


def curves() -> list[Curve]:
    """Return two batch curves."""
    return [
        Curve(
            label=label,
            output_unit="token",
            rows=tuple(
                {
                    "run_id": f"{label}{batch}",
                    "batch_ceiling": float(batch),
                    "batch_size": float(batch),
                    "energy_per_output_j": energy / batch,
                    "output_throughput_per_s": 100.0 * batch,
                    "itl_median_s": 0.01 * batch**0.5,
                    "latency_median_s": None,
                    "power_w": 100.0 * energy,
                }
                for batch in (8, 16, 32)
            ),
        )
        for label, energy in (("1x H100", 4.0), ("1x B200", 3.0))
    ]


def timeline() -> RunTimeline:
    """Return ten seconds of a run with two windows."""
    time = tuple(float(t) for t in range(11))

    def trace(panel: str, name: str, unit: str, level: float) -> Trace:
        return Trace(
            panel=panel, name=name, unit=unit, time_s=time, values=tuple(min(t, 3.0) * level for t in time)
        )

    return RunTimeline(
        length_s=10.0,
        windows_s=((4.0, 6.0), (6.0, 8.0)),
        traces=(
            trace("power", "nvidia", "W", 200.0),
            trace("requests", "in flight", "request", 4.0),
            trace("requests", "waiting", "request", 0.5),
            trace("throughput", "tokens", "token/s", 1000.0),
            trace("KV cache", "KV cache in use", "1", 0.25),
            trace("activity", "memory bandwidth", "1", 0.2),
        ),
    )


def frontier() -> Frontier:
    """Return four candidates, of which three are on the frontier."""
    rows = [
        {
            "num_gpus": 1,
            "gpu_model": gpu,
            "weight_precision": "fp8",
            "batch_ceiling": float(batch),
            "itl_median_s": itl,
            "energy_per_output_j": energy,
            "energy_per_output_j_low": 0.8 * energy,
            "energy_per_output_j_high": 1.25 * energy,
            "basis": basis,
            "on_frontier": on,
            "knee": batch == 32,
        }
        for gpu, batch, itl, energy, basis, on in (
            ("B200", 8, 0.01, 1.0, "measured", True),
            ("B200", 32, 0.02, 0.4, "interpolated", True),
            ("H100", 32, 0.03, 0.6, "measured", False),
            ("B200", 64, 0.04, 0.3, "modelled", True),
        )
    ]
    return Frontier(
        model="Model 8B",
        task="chat",
        output_unit="token",
        time_quantity="itl_median_s",
        table=pl.DataFrame(rows),
        hypervolume=1.0,
        reference_s=0.04,
        reference_j_per_output=1.0,
        same_batch=(),
    )


def plan(hours: int = 2) -> FleetPlan:
    """Return a plan of two demands on two GPU models at one site."""
    assignments = [
        Assignment(
            site="north",
            hour=hour,
            demand=demand,
            label="Model 8B",
            model_id="org/model-8b",
            gpu_model=gpu,
            num_gpus=1,
            weight_precision="fp8",
            batch_size=32.0,
            batch_ceiling=32.0,
            replicas=2 + hour,
            capacity_per_s=10.0,
            planned_power_w=3000.0 * (1 + hour),
            energy_per_output_j=0.3,
            output_throughput_per_s=3000.0,
            basis=Basis.MEASURED,
            run_id=None,
            series=0,
        )
        for hour in range(hours)
        for demand, gpu in (("chat", "H100"), ("code", "B200"))
    ]
    energy = Quantity(value=7.2e7, unit="J", basis=Basis.ASSUMED, low=7e7, high=7.5e7)
    return FleetPlan(
        objective="value",
        unit="value",
        value=10.0,
        bound=10.0,
        gap_fraction=0.0,
        confidence=None,
        power="mean",
        hours=hours,
        assignments=tuple(assignments),
        services=tuple(
            Service(demand=demand, hour=hour, asked_per_s=10.0, served_per_s=served, reason=why)
            for hour in range(hours)
            for demand, served, why in (("chat", 10.0, ""), ("code", 8.0, "the power cap of north is used up"))
        ),
        site_power=tuple(
            SitePower(
                site="north",
                hour=hour,
                cap_w=13000.0,
                planned_power_w=6000.0 * (1 + hour),
                expected_power_w=Quantity(value=5800.0, unit="W", basis=Basis.MEASURED, low=5500.0, high=6100.0),
            )
            for hour in range(hours)
        ),
        binding=("the power cap of north is used up",),
        marginals=(),
        facility_energy_j=energy,
        electricity_usd=3.5,
        carbon_kg=None,
        gpus={"north H100": 3, "north B200": 3},
        purchase_usd=None,
        notes=("350 W counted beside each H100",),
        found=cast("Any", None),
    )


def simulation() -> Simulation:
    """Return a simulation of one demand at one site."""
    bins = np.arange(0.0, 3600.0, 600.0, dtype=np.float64)
    return Simulation(
        length_s=3600.0,
        requests=1000,
        demands=(
            DemandResult(
                demand="chat",
                requests=1000,
                unserved_requests=0,
                wait_mean_s=0.01,
                wait_p99_s=0.2,
                waited_fraction=0.05,
                ttft_median_s=0.1,
                ttft_p99_s=0.4,
                itl_median_s=0.02,
                latency_mean_s=4.0,
                latency_p99_s=9.0,
                held={"itl_median_s": 0.99},
                longest_queue_requests=4,
                mean_batch=20.0,
                gpu_energy_j=1e6,
                gpu_energy_per_request_j=1e3,
            ),
        ),
        power=(
            PowerResult(
                site="north",
                cap_w=13000.0,
                mean_w=9000.0,
                p95_w=11000.0,
                p99_w=12000.0,
                most_w=12500.0,
                over_cap_fraction=0.0,
                facility_energy_j=3.2e7,
                bin_s=bins,
                bin_mean_w=9000.0 + 500.0 * np.sin(bins / 600.0),
                bin_cap_w=np.full(6, 13000.0),
            ),
        ),
        basis=Basis.MODELLED,
        notes=(),
        runs=(),
    )
