"""Turning a measured level into a run: quantities with basis, interval, and the reasons for those that lack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.level import LevelOutcome
from joulemap.measure.session.windows import Estimate, Ratio
from joulemap.measure.session.work import WorkDone
from joulemap.records import (
    Annotations,
    Basis,
    Deployment,
    Measured,
    Provenance,
    Quantity,
    Run,
    Validity,
    Workload,
)

SOURCE = "joulemap measure"
FROM_METER = ("energy_per_output_j", "energy_per_request_j", "power_w")
MEASURED_FIELDS = frozenset(f.name for f in fields(Measured))
COUNTS = frozenset(
    {"completed_requests", "failed_requests", "total_input_tokens", "total_output_tokens", "preemptions"}
)
EXPECTED = {
    "memory_bandwidth_utilization": "no GPU activity counters (GPM or DCGM) on this machine",
    "compute_utilization": "no GPU activity counters (GPM or DCGM) on this machine",
    "kv_cache_utilization": "the engine told nothing of its KV cache",
    "idle_power_w": "the engine was running before the measurement began",
    "loaded_idle_power_w": "no time without requests was measured",
}
"""Quantities that a reader would look for, with the usual reason why they lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """Powers without work, where they were measured."""

    idle_power_w: float | None = None
    loaded_idle_power_w: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRecord:
    """Everything of which a run is made."""

    workload: Workload
    deployment: Deployment
    outcome: LevelOutcome
    estimate: Estimate
    done: WorkDone
    validity: Validity
    baselines: Baselines
    extra: Mapping[str, float]
    """Quantities of activity and telemetry over the windows, by field name."""
    missing: Mapping[str, str]
    notes: tuple[str, ...] = ()


def to_run(record: LevelRecord, instruments: Instruments) -> Run:
    """Return a level as a run."""
    outcome, estimate = record.outcome, record.estimate
    energy = instruments.energy(outcome.begin_s, outcome.end_s)
    values, missing = _values(record, instruments)
    intervals = _intervals(estimate, energy, values)
    begin = datetime.fromtimestamp(outcome.windows[0].begin_unix_s, UTC)
    return Run(
        workload=replace(
            record.workload,
            mean_input_tokens=record.done.mean_input_tokens or record.workload.mean_input_tokens,
            mean_output_tokens=record.done.mean_output_tokens or record.workload.mean_output_tokens,
        ),
        deployment=record.deployment,
        measured=_measured(values),
        provenance=Provenance(
            source=SOURCE,
            measured_at=begin,
            meter=instruments.meter_name,
            notes=tuple(dict.fromkeys((*record.notes, *instruments.notes()))),
        ),
        validity=record.validity,
        annotations=Annotations(
            basis=_basis(instruments, values), intervals=intervals, missing={k: missing[k] for k in sorted(missing)}
        ),
    )


def _values(record: LevelRecord, instruments: Instruments) -> tuple[dict[str, float], dict[str, str]]:
    """Return the measured values, and the reasons of those that lack."""
    estimate, done, base = record.estimate, record.done, record.baselines
    outcome = record.outcome
    duration_s = outcome.end_s - outcome.begin_s
    in_flight = sum(w.in_flight * w.duration_s for w in outcome.windows) / duration_s
    values: dict[str, float | None] = {
        "power_w": estimate.power_w.value,
        "duration_s": duration_s,
        "output_throughput_per_s": estimate.output_throughput_per_s.value,
        "batch_size": in_flight,
        **done.measured,
        **record.extra,
        "idle_power_w": base.idle_power_w,
        "loaded_idle_power_w": base.loaded_idle_power_w,
    }
    if estimate.energy_per_output_j is not None:
        per_output = values["energy_per_output_j"] = estimate.energy_per_output_j.value
        if done.mean_output_tokens is not None:
            values["energy_per_request_j"] = per_output * done.mean_output_tokens
    values.update(_energies(instruments, outcome))
    missing = {**EXPECTED, **base.missing, **done.missing, **record.missing}
    known = {name: value for name, value in values.items() if value is not None}
    return known, {n: why for n, why in missing.items() if n in MEASURED_FIELDS and n not in known}


def _energies(instruments: Instruments, outcome: LevelOutcome) -> dict[str, float]:
    """Return the energy of each kind of device that some meter reads."""
    names = {DeviceKind.GPU: "gpu_energy_j", DeviceKind.CPU: "cpu_energy_j", DeviceKind.DRAM: "dram_energy_j"}
    found = {}
    for energy in instruments.energies(outcome.begin_s, outcome.end_s):
        for kind, name in names.items():
            total = energy.total(kind)
            if isinstance(total, Quantity):
                found[name] = total.value
    times, degrees = instruments.temperature_series(outcome.begin_s, outcome.end_s)
    if len(times) and instruments.work_kind is DeviceKind.GPU:
        found["gpu_temperature_c"] = float(degrees.mean())
    return found


def _measured(values: Mapping[str, float]) -> Measured:
    known: dict[str, Any] = {name: value for name, value in values.items() if name in MEASURED_FIELDS}
    return Measured(**{name: round(v) if name in COUNTS else v for name, v in known.items()})


def _basis(instruments: Instruments, values: Mapping[str, float]) -> dict[str, Basis]:
    """Return the basis of what is not plainly measured."""
    by_kind = {d.kind: text.basis for text in instruments.descriptions for d in text.devices}
    basis = dict.fromkeys((*FROM_METER, "idle_power_w", "loaded_idle_power_w"), instruments.basis)
    for kind, name in (
        (DeviceKind.GPU, "gpu_energy_j"),
        (DeviceKind.CPU, "cpu_energy_j"),
        (DeviceKind.DRAM, "dram_energy_j"),
    ):
        basis[name] = by_kind.get(kind, Basis.MEASURED)
    return {name: b for name, b in basis.items() if b is not Basis.MEASURED and name in values}


def _intervals(
    estimate: Estimate, energy: Quantity | str, values: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Return 90 % intervals: the spread of the windows, widened by what the meter leaves open."""
    low = high = 1.0
    if isinstance(energy, Quantity) and energy.value > 0 and energy.low is not None and energy.high is not None:
        low, high = energy.low / energy.value, energy.high / energy.value
    found: dict[str, tuple[float, float]] = {}
    if estimate.energy_per_output_j is not None:
        _enter(found, "energy_per_output_j", estimate.energy_per_output_j, low, high)
    _enter(found, "power_w", estimate.power_w, low, high)
    _enter(found, "output_throughput_per_s", estimate.output_throughput_per_s, 1.0, 1.0)
    if "energy_per_output_j" in found and "energy_per_request_j" in values:
        factor = values["energy_per_request_j"] / values["energy_per_output_j"]
        # Rounding must not push the value out of its own interval.
        value = values["energy_per_request_j"]
        bounds = [factor * end for end in found["energy_per_output_j"]]
        found["energy_per_request_j"] = (min(bounds[0], value), max(bounds[1], value))
    return found


def _enter(found: dict[str, tuple[float, float]], name: str, ratio: Ratio, low: float, high: float) -> None:
    if ratio.half_width is not None:
        ends = (low * (ratio.value - ratio.half_width), high * (ratio.value + ratio.half_width))
        found[name] = (max(0.0, min(ends[0], ratio.value)), max(ends[1], ratio.value))
