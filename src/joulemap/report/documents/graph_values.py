"""What stands on the nodes of the causal graph of a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulemap.diagnose.diagnosis import Diagnosis
from joulemap.records import Quantity, Run
from joulemap.report.numbers import figure, joules, quantity_cells
from joulemap.units import MS_PER_S

if TYPE_CHECKING:
    from joulemap.report.charts.causal_graph import NodeValue

_SHARES = {
    "memory_bandwidth": "memory_bandwidth_utilization",
    "compute": "compute_utilization",
    "communication": "communication_fraction",
    "starved": "starved_fraction",
}


def graph_values(diagnosis: Diagnosis, run: Run | None) -> dict[str, NodeValue]:
    """Return the values by node, as far as they are known."""
    from joulemap.report.charts.causal_graph import NodeValue

    latents = diagnosis.latents
    values = {}
    for node, name in _SHARES.items():
        if (q := latents.get(name)) is not None:
            values[node] = NodeValue(text=f"{q.value:.0%}", basis=q.basis)
    for node in ("memory_footprint", "memory_available"):
        if (q := latents.get(f"{node}_bytes")) is not None:
            number, unit, *_ = quantity_cells(q)
            values[node] = NodeValue(text=f"{number} {unit.removesuffix('/GPU')}", basis=q.basis)
    if (q := latents.get("context_tokens")) is not None:
        values["compute_volume"] = NodeValue(text=f"{figure(q.value)} tok.", basis=q.basis)
    if (q := latents.get("batch_size")) is not None:
        values["batch_size"] = NodeValue(text=_batch(q, latents.get("batch_ceiling")), basis=q.basis)
    total = joules(diagnosis.total_j_per_output)
    values["energy"] = NodeValue(text=total, basis=diagnosis.total_basis)
    return values if run is None else values | _of_run(run)


def _batch(batch: Quantity, ceiling: Quantity | None) -> str:
    return figure(batch.value) if ceiling is None else f"{figure(batch.value)} of {figure(ceiling.value)}"


def _of_run(run: Run) -> dict[str, NodeValue]:
    """Return the settings and outcomes of a run."""
    from joulemap.report.charts.causal_graph import NodeValue

    deployment, workload = run.deployment, run.workload
    values = {
        "model": NodeValue(text=deployment.weight_precision or deployment.nickname or deployment.model_id),
        "workload": NodeValue(text=workload.task or "unnamed"),
    }
    if deployment.gpu_model is not None:
        values["gpus"] = NodeValue(text=f"{deployment.num_gpus or '?'}x {deployment.gpu_model}")
    if deployment.max_num_seqs is not None:
        values["application_limit"] = NodeValue(text=f"≤ {deployment.max_num_seqs:,}")
    if (power := run.quantity("power_w")) is not None:
        values["power"] = NodeValue(text=f"{figure(power.value)} W", basis=power.basis)
    rate = run.quantity("output_throughput_per_s")
    if rate is not None and rate.value:
        values["time"] = NodeValue(text=_time(1.0 / rate.value), basis=rate.basis)
    return values


def _time(time_s: float) -> str:
    if time_s >= 1.0:
        return f"{figure(time_s)} s"
    scale, unit = (MS_PER_S, "ms") if time_s >= 1.0 / MS_PER_S else (MS_PER_S**2, "µs")
    return f"{figure(time_s * scale)} {unit}"
