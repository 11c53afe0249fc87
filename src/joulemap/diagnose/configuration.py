"""Diagnosis of a configuration that nobody ran: every number is the model's."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import polars as pl

from joulemap.catalog import Catalog, load_catalog
from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis
from joulemap.diagnose.series import Curves
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.predict.predict import shipped_calibration
from joulemap.predict.prepare import prepare, with_output_tokens
from joulemap.predict.single import predict
from joulemap.records import Basis, Deployment, Workload
from joulemap.records.estimate import Estimate
from joulemap.store.schema import COLUMNS, empty_frame

OUTCOMES = (
    *("energy_per_output_j", "energy_per_request_j", "power_w", "output_throughput_per_s"),
    *("request_throughput_per_s", "itl_median_s", "ttft_median_s", "latency_mean_s", "latency_median_s"),
)
USUAL_CEILING = 512
"""Batches up to which an engine captures CUDA graphs; the usual ceiling where none is set."""


def diagnose_configuration(
    workload: Workload,
    deployment: Deployment,
    *,
    batch_size: float | None = None,
    calibration: Calibration | None = None,
    catalog: Catalog | None = None,
    models: Models | None = None,
) -> Diagnosis:
    """Diagnose a configuration from its prediction.

    Args:
        workload: As for :func:`joulemap.predict.single.predict`.
        deployment: As there.
        batch_size: Requests that run together; what memory, demand or ``max_num_seqs`` allow if ``None``.
        calibration: Fitted coefficients; the shipped ones if ``None``.
        catalog: Facts; the shipped ones if ``None``.
        models: Architectures by model id that the catalog lacks.

    Returns:
        A diagnosis without a run id, whose every basis is ``modelled``.

    Raises:
        InfeasibleError: The weights do not fit on the GPUs.
        UsageError: A name is unknown, or a value is not positive.
    """
    fitted, facts = calibration or shipped_calibration(), catalog or load_catalog()
    table, known, estimate = configuration_table(
        workload, deployment, batch_size=batch_size, calibration=fitted, catalog=facts, models=models
    )
    (diagnosis,) = diagnose_frame(
        table, curves=Curves(empty_frame()), calibration=fitted, catalog=facts, models=known
    )
    said = [f"assumed: {name} = {value}" for name, value in estimate.assumptions.items()]
    return replace(diagnosis, notes=(*diagnosis.notes, *said, *estimate.warnings))


def configuration_table(
    workload: Workload,
    deployment: Deployment,
    *,
    batch_size: float | None,
    calibration: Calibration,
    catalog: Catalog,
    models: Models | None,
) -> tuple[pl.DataFrame, Models, Estimate]:
    """Return a configuration as a run table of one row, with predicted outcomes in place of measured ones.

    Returns:
        The table, the architectures that it needs, and the prediction; errors as :func:`diagnose_configuration`.
    """
    estimate = predict(
        workload, deployment, batch_size=batch_size, calibration=calibration, catalog=catalog, models=models
    )
    asked = pl.DataFrame([_row(estimate, deployment.weight_precision)], schema=COLUMNS, strict=False)
    prepared = prepare(with_output_tokens(asked), catalog, models)
    return prepared.frame.select(list(COLUMNS)), prepared.models, estimate


def _row(estimate: Estimate, precision: str | None) -> dict[str, Any]:
    outcomes = {name: estimate.quantities[name].value for name in OUTCOMES if name in estimate.quantities}
    batch = outcomes["batch_size"] = estimate.latents["batch_size"].value
    stated = asdict(estimate.workload) | asdict(estimate.deployment) | {"weight_precision": precision}
    if stated["max_num_seqs"] is None and (stated["request_rate_per_s"] or stated["max_concurrency"]):
        # Demand sets the batch: the engine would have admitted what memory holds, up to its usual ceiling.
        ceiling = min(estimate.latents["batch_ceiling"].value, USUAL_CEILING)
        stated["max_num_seqs"] = int(max(ceiling, batch))
    return {
        **{name: value for name, value in stated.items() if name in COLUMNS},
        **outcomes,
        "valid": True,
        "source": "joulemap diagnose",
        "annotations": json.dumps({"basis": dict.fromkeys(outcomes, Basis.MODELLED.value)}),
    }
