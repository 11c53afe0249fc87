"""Making a run of the windows that a killed session left in its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.journal import Journaled, JournaledLevel
from joulemap.measure.session.recording import SOURCE, Baselines
from joulemap.measure.session.steady import trend
from joulemap.measure.session.windows import FEWEST_WINDOWS, Ratio, Window, estimate
from joulemap.records import (
    Annotations,
    Basis,
    Deployment,
    LengthDistribution,
    Measured,
    Modality,
    OutputUnit,
    Provenance,
    Run,
    Validity,
    Workload,
)
from joulemap.store.run_store import RunStore

LOST = "lost when the session was killed; only complete windows were kept"
ENERGY_NAMES = {DeviceKind.GPU: "gpu_energy_j", DeviceKind.CPU: "cpu_energy_j", DeviceKind.DRAM: "dram_energy_j"}


def facts_of(
    workload: Workload,
    deployment: Deployment,
    instruments: Instruments,
    baselines: Baselines,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return what a journal must hold of a level, in JSON's types."""
    main = next(d for d in instruments.descriptions if any(x.kind == instruments.work_kind for x in d.devices))
    return {
        "workload": asdict(workload),
        "deployment": asdict(deployment),
        "kind": instruments.work_kind.value,
        "basis": instruments.basis.value,
        "relative_interval": main.relative_interval,
        "meter": instruments.meter_name,
        "idle_power_w": baselines.idle_power_w,
        "loaded_idle_power_w": baselines.loaded_idle_power_w,
        "notes": [*notes, *main.notes],
    }


def recovered_run(level: JournaledLevel) -> Run | None:
    """Return the run of a level that was killed, ``None`` if too few of its windows were complete.

    What needs the requests or the meters' readings is missing, with the reason; whether the load was steady
    could not be judged, and the verdict says so.
    """
    told = estimate(level.windows)
    if told is None or len(level.windows) < FEWEST_WINDOWS or told.energy_per_output_j is None:
        return None
    facts, windows = level.facts, level.windows
    energy: dict[str, Any] = {ENERGY_NAMES[DeviceKind(facts["kind"])]: sum(w.energy_j for w in windows)}
    duration_s = sum(w.duration_s for w in windows)
    measured = Measured(
        energy_per_output_j=told.energy_per_output_j.value,
        power_w=told.power_w.value,
        output_throughput_per_s=told.output_throughput_per_s.value,
        batch_size=sum(w.in_flight * w.duration_s for w in windows) / duration_s,
        request_throughput_per_s=sum(w.completed_requests for w in windows) / duration_s,
        duration_s=duration_s,
        idle_power_w=facts["idle_power_w"],
        loaded_idle_power_w=facts["loaded_idle_power_w"],
        **energy,
    )
    basis = Basis(facts["basis"])
    from_meter = (
        "energy_per_output_j",
        "power_w",
        "gpu_energy_j",
        "cpu_energy_j",
        "idle_power_w",
        "loaded_idle_power_w",
    )
    return Run(
        workload=_workload(facts["workload"]),
        deployment=Deployment(**facts["deployment"]),
        measured=measured,
        provenance=Provenance(
            source=SOURCE,
            measured_at=datetime.fromtimestamp(windows[0].begin_unix_s, UTC),
            meter=facts["meter"],
            notes=tuple(facts["notes"]),
        ),
        validity=_validity(windows),
        annotations=Annotations(
            basis={}
            if basis is Basis.MEASURED
            else {name: basis for name in from_meter if getattr(measured, name) is not None},
            intervals=_intervals(windows, facts),
            missing=dict.fromkeys(
                ("itl_median_s", "ttft_median_s", "latency_median_s", "kv_cache_utilization"), LOST
            ),
        ),
    )


def _validity(windows: Sequence[Window]) -> Validity:
    """Return the verdict as far as windows alone allow one: whether they drift."""
    told = f"recovered: made of {len(windows)} windows of a killed session; the load itself could not be judged"
    durations = np.array([w.duration_s for w in windows])
    faults = [
        f"not steady: {name} drifted by {line.drift_fraction:+.1%} from the first window to the last"
        for name, values in (("throughput", [w.outputs for w in windows]), ("power", [w.energy_j for w in windows]))
        if (line := trend(np.array(values) / durations)).drifting
    ]
    return Validity(valid=not faults, reasons=(*faults, told))


def _intervals(windows: Sequence[Window], facts: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    told = estimate(windows)
    if told is None:
        return {}
    low, high = facts["relative_interval"] or (1.0, 1.0)
    pairs: dict[str, tuple[Ratio | None, float, float]] = {
        "energy_per_output_j": (told.energy_per_output_j, low, high),
        "power_w": (told.power_w, low, high),
        "output_throughput_per_s": (told.output_throughput_per_s, 1.0, 1.0),
    }
    return {
        name: (max(0.0, lo * (r.value - r.half_width)), hi * (r.value + r.half_width))
        for name, (r, lo, hi) in pairs.items()
        if r is not None and r.half_width is not None
    }


def _workload(told: Mapping[str, Any]) -> Workload:
    lengths = told.get("output_lengths")
    kept = {name: value for name, value in told.items() if name != "output_lengths"}
    kept["output_unit"] = OutputUnit(kept["output_unit"])
    kept["input_modality"] = Modality(kept["input_modality"])
    histogram = None
    if lengths is not None:
        histogram = LengthDistribution(edges=tuple(lengths["edges"]), counts=tuple(lengths["counts"]))
    return Workload(**kept, output_lengths=histogram)


def recover(store: RunStore, journaled: Journaled) -> tuple[list[Run], set[str]]:
    """Store the runs of levels whose complete windows suffice; return them, and the levels that are done.

    Raises:
        StoreError: The store cannot be written.
    """
    runs: list[Run] = []
    done: set[str] = set()
    for name, level in journaled.levels.items():
        run = None if level.run_id is not None else recovered_run(level)
        if run is not None:
            runs.append(run)
        if run is not None or level.run_id is not None:
            done.add(name)
    if runs:
        store.add(runs)
    return runs, done
