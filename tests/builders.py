"""Small, valid records for tests; every argument that matters is named by the test."""

from __future__ import annotations

from typing import Any

from joulemap.records import Deployment, Measured, OutputUnit, Provenance, Run, Validity, Workload


def llm_run(
    *,
    task: str = "chat",
    model_id: str = "org/model-8b",
    batch: float = 8.0,
    ceiling: int | None = None,
    energy_j: float = 1.0,
    power_w: float = 500.0,
    tokens: float = 100.0,
    valid: bool = True,
    **deployment: Any,
) -> Run:
    """Return one LLM run; energy per token and power fix its throughput, as in any true measurement."""
    settings: dict[str, Any] = {
        "gpu_model": "H100",
        "num_gpus": 1,
        "weight_precision": "bfloat16",
        "tensor_parallel": 1,
        "engine": "vllm",
        **deployment,
    }
    return Run(
        workload=Workload(task=task, mean_output_tokens=tokens),
        deployment=Deployment(model_id=model_id, max_num_seqs=ceiling or round(batch), **settings),
        measured=Measured(
            energy_per_output_j=energy_j,
            energy_per_request_j=energy_j * tokens,
            power_w=power_w,
            batch_size=batch,
            output_throughput_per_s=power_w / energy_j,
            itl_median_s=batch * energy_j / power_w,
        ),
        provenance=Provenance(source="test"),
        validity=Validity(valid=valid, reasons=() if valid else ("planted",)),
    )


def image_run(
    *,
    model_id: str = "org/painter",
    steps: int = 20,
    side_px: int = 1024,
    batch: int = 1,
    energy_j: float = 1000.0,
    **deployment: Any,
) -> Run:
    """Return one text-to-image run."""
    settings: dict[str, Any] = {"gpu_model": "H100", "num_gpus": 1, "engine": "xdit", **deployment}
    return Run(
        workload=Workload(
            task="text-to-image",
            output_unit=OutputUnit.IMAGE,
            inference_steps=steps,
            height_px=side_px,
            width_px=side_px,
        ),
        deployment=Deployment(model_id=model_id, **settings),
        measured=Measured(
            energy_per_output_j=energy_j,
            energy_per_request_j=energy_j,
            power_w=500.0,
            batch_size=float(batch),
            output_throughput_per_s=500.0 / energy_j,
            latency_median_s=batch * energy_j / 500.0,
        ),
        provenance=Provenance(source="test"),
    )
