"""Diagnoses: where the joules of runs went, what bound them, and what to change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from joulemap.catalog import Catalog, DiffusionArchitecture, ModelArchitecture, load_catalog
from joulemap.diagnose.alternatives import numbered, predicted_changes
from joulemap.diagnose.bounds import ORDER, SeenOfBatch, batch_seen, bounds_of
from joulemap.diagnose.case import Case
from joulemap.diagnose.completed import completed
from joulemap.diagnose.diagnosis import AboveIdeal, Change, Diagnosis, LedgerPart, Part
from joulemap.diagnose.explain import label
from joulemap.diagnose.findings.registry import findings_of, registered_findings
from joulemap.diagnose.hosts import with_hosts_as_seen
from joulemap.diagnose.ideal import NAMES, ideal_energy
from joulemap.diagnose.latents import basis_of, latents_of, missing_latents
from joulemap.diagnose.ledger import PARTS, Ledger, Measurement, expected_power, ledger_of, measurement_of, times_of
from joulemap.diagnose.modelled import Modelled, modelled_forms, seconds_per_output_step
from joulemap.diagnose.neighbours import siblings_of
from joulemap.diagnose.series import Curves, with_series_columns
from joulemap.diagnose.unmodelled import measured_only
from joulemap.errors import UsageError
from joulemap.physics.arrays import Floats
from joulemap.predict.calibration import Calibration, default_calibration
from joulemap.predict.forms import Models
from joulemap.records import Basis, weakest
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.selector import find_run


def diagnose(
    run: str | Mapping[str, Any],
    *,
    store: RunStore | None = None,
    architecture: ModelArchitecture | DiffusionArchitecture | None = None,
) -> Diagnosis:
    """Diagnose one run.

    Args:
        run: A run id, a selector, or a row of the run table.
        store: The run store; the default one if ``None``.
        architecture: The shape of the run's model; the catalog's if ``None``.

    Raises:
        UsageError: The run has no energy to account for.
        SelectorError: A selector matches no run, or several.
    """
    runs = store if store is not None else open_store()
    row = find_run(runs, run) if isinstance(run, str) else run
    if not row["energy_per_output_j"]:
        msg = f"run {row['run_id']} has no energy per output to account for"
        raise UsageError(msg, fix=f"'joulemap show {row['run_id']}' says what was measured, and why not more")
    frame = pl.DataFrame([row], schema=runs.frame.schema, strict=False)
    models = {row["model_id"]: architecture} if architecture is not None else None
    return diagnose_frame(frame, curves=Curves(runs.frame), models=models)[0]


def diagnose_frame(
    frame: pl.DataFrame,
    *,
    curves: Curves,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> list[Diagnosis]:
    """Diagnose every row of a run table that has an energy per output.

    Args:
        frame: The runs to diagnose.
        curves: The measured neighbours, usually of the whole store.
        calibration: The calibrated model; the shipped one if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id, beside the catalog's.

    Returns:
        One diagnosis a run, in order.
    """
    fitted, facts = calibration or default_calibration(), catalog or load_catalog()
    told = completed(frame.filter(pl.col("energy_per_output_j") > 0), facts, models)
    seen = with_hosts_as_seen(told, calibration=fitted, catalog=facts, models=models)
    runs = with_series_columns(seen)
    rows = runs.to_dicts()
    findings = registered_findings()
    changes = predicted_changes(
        runs,
        {f.NAME: f.alternative(numbered(runs)) for f in findings if f.alternative is not None},
        calibration=fitted,
        catalog=facts,
        models=models,
    )
    forms = modelled_forms(runs, calibration=fitted, catalog=facts, models=models)
    found = dict(pair for form in forms for pair in _diagnoses(form, runs, rows, changes, curves))
    return [found.get(i) or measured_only(row, curves, facts) for i, row in enumerate(rows)]


def _diagnoses(
    modelled: Modelled,
    runs: pl.DataFrame,
    rows: Sequence[Mapping[str, Any]],
    changes: Sequence[Mapping[str, Change]],
    curves: Curves,
) -> list[tuple[int, Diagnosis]]:
    own = runs[modelled.index.tolist()]
    measured = _with_modelled_time(measurement_of(own), modelled)
    times = times_of(modelled.terms, measured)
    ledger, latents = ledger_of(modelled, measured), latents_of(modelled, measured)
    ideal, factors = ideal_energy(modelled, measured.energy_j)
    power_ratio = measured.power_w / expected_power(modelled.terms, measured)
    power_deviation = modelled.deviation("power_w")
    seen: SeenOfBatch = batch_seen(own, curves)
    bounds = bounds_of(modelled, measured, times, seen)
    diagnosed = []
    for position, case_index in enumerate(modelled.index.tolist()):
        row = rows[case_index]
        bound, margin, next_bound = bounds.of(position)
        holder = bounds.batch_holder[position]
        basis = basis_of(row, "energy_per_output_j")
        parts = _parts(ledger, position, row["energy_per_output_j"], basis)
        own_latents = latents.of(position, row, _ceiling_words(holder.value))
        case = Case(
            row=row,
            latents=own_latents,
            shares={p.part: p.joules_per_output / row["energy_per_output_j"] for p in parts},
            bound_by=bound,
            batch_holder=holder,
            gain_ratio=dict(zip(ORDER, bounds.gain_ratio[:, position].tolist(), strict=True)),
            batch_gain_ratio=float(bounds.batch_gain_ratio[position]),
            changes=changes[case_index],
            power_ratio=float(power_ratio[position]),
            power_deviation=float(power_deviation[position]),
            series=curves.of(row),
            siblings=siblings_of(row, curves),
        )
        diagnosed.append(
            (
                case_index,
                Diagnosis(
                    run_id=row["run_id"],
                    label=label(row),
                    output_unit=row["output_unit"],
                    latents=own_latents,
                    missing_latents=missing_latents(row, own_latents),
                    ledger=parts,
                    total_j_per_output=row["energy_per_output_j"],
                    total_basis=basis,
                    ideal_j_per_output=float(ideal[position]),
                    above_ideal=_above(factors[:, position], row["energy_per_output_j"], float(ideal[position])),
                    bound_by=bound,
                    bound_margin=margin,
                    next_bound=next_bound,
                    findings=findings_of(case),
                    notes=_notes(row, float(ledger.model_excess_ratio[position]), case.shares[Part.UNEXPLAINED]),
                ),
            )
        )
    return diagnosed


def _with_modelled_time(measured: Measurement, modelled: Modelled) -> Measurement:
    """Return the measurement with the model's step where neither power nor throughput was measured."""
    known = np.isfinite(measured.step_s)
    if known.all():
        return measured
    step_s = np.where(known, measured.step_s, seconds_per_output_step(modelled.terms))
    power_w = np.where(known, measured.power_w, measured.energy_j * measured.outputs_per_step / step_s)
    return replace(measured, step_s=step_s, power_w=power_w)


MUCH_UNEXPLAINED = 0.3
"""Share of the energy from which a note says what may be behind what the parts do not account for."""
WORTH_TELLING = 1.005
"""Excess of the modelled parts over the measurement from which a note says so."""


def _parts(ledger: Ledger, run: int, total_j: float, basis: Basis) -> tuple[LedgerPart, ...]:
    values = ledger.parts_j[:, run].tolist()
    # Rounding in the sums is put right in the largest part, so that the ledger is exact.
    largest = max(range(len(values)), key=values.__getitem__)
    values[largest] += total_j - math.fsum(values)
    return tuple(
        LedgerPart(
            part=part,
            joules_per_output=value,
            low=min(float(ledger.low_j[i, run]), value),
            high=max(float(ledger.high_j[i, run]), value),
            basis=weakest(basis, Basis.MODELLED),
        )
        for i, (part, value) in enumerate(zip(PARTS, values, strict=True))
    )


def _above(factors: Floats, total_j: float, ideal_j: float) -> tuple[AboveIdeal, ...]:
    values = dict(zip(NAMES, factors.tolist(), strict=True))
    values["unexplained"] *= total_j / ideal_j / math.prod(values.values())
    return tuple(AboveIdeal(name=name, ratio=ratio) for name, ratio in values.items())


def _ceiling_words(holder: str) -> str:
    return {"application-limit": "the configured ceiling", "memory-capacity": "memory"}.get(holder, holder)


def _notes(row: Mapping[str, Any], excess: float, unexplained: float) -> tuple[str, ...]:
    notes = []
    if unexplained > MUCH_UNEXPLAINED:
        notes.append(
            f"{unexplained:.0%} of the energy is unexplained: slower kernels than the model knows, a precision "
            "other than stated, other work on these GPUs, or GPUs metered that did not serve"
        )
    if excess > WORTH_TELLING:
        notes.append(f"the modelled parts came to {excess:.2f}x the measured energy and were scaled down together")
    if not row["output_throughput_per_s"] and not row["power_w"]:
        notes.append("neither power nor throughput was measured: the model's time of a step divides the energy")
    if row["valid"] is False:
        notes.append("the run is marked invalid: " + "; ".join(row["validity_reasons"] or ["no reason given"]))
    return tuple(notes)
