"""The report on a prediction: what a configuration would take, and how that changes from another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from joulemap.records import Quantity
from joulemap.records.estimate import Estimate
from joulemap.report.document import Block, Document, Fact, Facts, Notes, Section, Table
from joulemap.report.documents.run import QUANTITY_COLUMNS
from joulemap.report.numbers import change, figure, plain, quantity_cells, span, times
from joulemap.units import BYTES_PER_GB, MS_PER_S

_NAMES = {
    "energy_per_output_j": "energy per output",
    "energy_per_request_j": "energy per response",
    "power_w": "power of all GPUs",
    "output_throughput_per_s": "throughput",
    "itl_median_s": "inter-token latency, median",
    "ttft_median_s": "time to first token, median",
    "latency_mean_s": "latency of a request, mean",
    "latency_median_s": "latency of a batch",
}
"""The outcomes that matter most, with their names for people."""


def estimate_document(estimate: Estimate, before: Estimate | None = None) -> Document:
    """Arrange a prediction.

    Args:
        estimate: The prediction.
        before: The configuration that it is compared with, if any.
    """
    payload: dict[str, Any] = {"kind": "prediction", "prediction": estimate.to_json()}
    if before is not None:
        payload["before"] = before.to_json()
    return Document(
        kind="prediction",
        title=_label(estimate),
        subtitle=estimate.workload.task or "",
        summary=_summary(estimate, before),
        sections=tuple(_sections(estimate, before)),
        payload=payload,
    )


def _label(estimate: Estimate) -> str:
    d = estimate.deployment
    return f"{d.model_id} in {d.weight_precision} on {d.num_gpus or 1} × {d.gpu_model}"


def _summary(estimate: Estimate, before: Estimate | None) -> str:
    energy = estimate.quantities["energy_per_output_j"]
    most = max(estimate.energy_parts_j.items(), key=lambda part: part[1])
    share = most[1] / sum(estimate.energy_parts_j.values())
    told = (
        f"{figure(energy.value)} {energy.unit} ({span(energy.low, energy.high)}, {energy.basis.value}) "
        f"at a batch of {figure(estimate.latents['batch_size'].value)}; "
        f"most of it, {share:.0%}, is {plain(most[0])}."
    )
    if before is None:
        return told
    ratio = energy.value / before.quantities["energy_per_output_j"].value
    return f"{change(ratio)} energy per output against {_label(before)}. {told}"


def _sections(estimate: Estimate, before: Estimate | None) -> Iterator[Section]:
    blocks: list[Block] = [Facts(facts=tuple(_facts(estimate, before)))]
    if estimate.warnings:
        blocks.append(Notes(texts=estimate.warnings, tone="warning"))
    yield Section(name="outcome", heading="What it would take", blocks=tuple(blocks))
    total = sum(estimate.energy_parts_j.values())
    unit = estimate.quantities["energy_per_output_j"].unit
    rows = [
        (plain(name), figure(value), f"{value / total:.0%}", "modelled")
        for name, value in sorted(estimate.energy_parts_j.items(), key=lambda part: -part[1])
        if value > 0
    ]
    parts = Table(title="", columns=("part", unit, "share", "basis"), rows=tuple(rows))
    yield Section(name="parts", heading="Where the joules would go", blocks=(parts,))
    every = {**estimate.quantities, **estimate.latents}
    table = Table(
        title="Every quantity, with intervals",
        columns=QUANTITY_COLUMNS,
        rows=tuple((plain(name), *quantity_cells(q)) for name, q in every.items()),
        folded=True,
    )
    assumed = tuple(f"assumed: {plain(name)} = {value}" for name, value in estimate.assumptions.items())
    notes = (Notes(texts=assumed),) if assumed else ()
    yield Section(name="quantities", heading="In full", blocks=(table, *notes))


def _facts(estimate: Estimate, before: Estimate | None) -> Iterator[Fact]:
    for name in _NAMES:
        quantity = estimate.quantities.get(name)
        if quantity is not None:
            was = None if before is None else before.quantities.get(name)
            yield _fact(name, quantity, was)
    used, there = (estimate.latents.get(f"memory_{x}_bytes") for x in ("footprint", "available"))
    if used is not None and there is not None:
        yield Fact(
            name="GPU memory: weights, and left for requests",
            value=f"{figure(used.value / BYTES_PER_GB)} + {figure(there.value / BYTES_PER_GB)}",
            unit="GB",
            basis=there.basis,
        )
    ceiling = estimate.latents.get("batch_ceiling")
    if ceiling is not None:
        yield Fact(
            name="largest batch that memory holds",
            value=figure(ceiling.value),
            interval=span(ceiling.low, ceiling.high),
            basis=ceiling.basis,
        )


def _fact(name: str, quantity: Quantity, was: Quantity | None) -> Fact:
    scale, unit = (MS_PER_S, "ms") if quantity.unit == "s" and quantity.value < 1.0 else (1.0, quantity.unit)
    low, high = (None if end is None else end * scale for end in (quantity.low, quantity.high))
    changed = "" if was is None else f" · {times(quantity.value / was.value)} of before"
    return Fact(
        name=_NAMES[name],
        value=figure(quantity.value * scale),
        unit=unit,
        interval=f"{span(low, high)}{changed}",
        basis=quantity.basis,
    )
