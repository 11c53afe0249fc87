"""Raw diffusion results of the ML.ENERGY Benchmark: a folder with ``results.json``.

Field names: the benchmark's ``mlenergy/diffusion/benchmark.py``. Energy and time are of each iteration, that
is, of one batch; fields named after images are of videos where the run has frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import fmean, median
from typing import Any

from joulemap.records import Measured, OutputUnit, Provenance, Run, Validity, Workload
from joulemap.store.importers.client_run import SHORTEST_ENERGY_WINDOW_S, deployment_of, override_notes
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.mlenergy_path import PathContext, model_info, path_context
from joulemap.store.importers.power_log import LATEST_UNIX_S
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class _Iterations:
    """Energy and time of each batch, and how many GPUs were measured."""

    energies_j: list[float]
    times_s: list[float]
    num_gpus: int


class MlenergyDiffusionImporter:
    """Reads the result in a folder, or a ``results.json`` by itself."""

    name = "mlenergy-diffusion"
    summary = "ML.ENERGY Benchmark raw diffusion results: a folder with results.json"

    def recognises(self, source: Source) -> bool:
        """Return whether the folder's ``results.json``, or the file, has energies of diffusion batches."""
        if source.is_folder:
            results = source.child("results.json")
            return results.path.is_file() and self.recognises(results)
        keys = source.first.keys()
        return "batch_size" in keys and bool(keys & {"iteration_energy_measurements", "iter0_energy_measurement"})

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read the run."""
        results_source = source.child("results.json") if source.is_folder else source
        results = Fields(results_source.file, "", results_source.document)
        return Reading(runs=[_run(results, results_source, hints)])


def _run(results: Fields, source: Source, hints: ImportHints) -> Run:
    folder = source.path.absolute().parent
    context = path_context(folder)
    stated = _deployment_fields(results, context)
    deployment = deployment_of(source, "", hints, **stated)
    task = hints.task or context.task
    info = model_info(folder, task, deployment.model_id)
    batch = results.integer("batch_size", positive=True)
    iterations = _iterations(results)
    faults = []
    if deployment.num_gpus and iterations.num_gpus != deployment.num_gpus:
        faults.append(f"energy is of {iterations.num_gpus} GPUs, but the run used {deployment.num_gpus}")
    if sum(iterations.times_s) < SHORTEST_ENERGY_WINDOW_S:
        faults.append(f"a window of {sum(iterations.times_s):.2g} s is too short to measure energy")
    started_s = (results.optional_fields("timeline") or results).optional_number(
        "benchmark_start_time", most=LATEST_UNIX_S
    )
    return Run(
        workload=_workload(results, task, context),
        deployment=replace(
            deployment,
            nickname=info.nickname,
            architecture=info.architecture,
            weight_precision=info.weight_precision,
            total_params_billions=info.total_params_billions,
            activated_params_billions=info.activated_params_billions,
        ),
        measured=_measured(iterations, batch),
        provenance=Provenance(
            source="ML.ENERGY Benchmark raw results",
            source_file="/".join(source.path.absolute().parts[-2:]),
            importer=IMPORTER.name,
            measured_at=datetime.fromtimestamp(started_s, UTC) if started_s else None,
            meter="Zeus (NVML energy counters)",
            notes=override_notes(hints, **{n: stated[n] for n in ("model_id", "gpu_model", "num_gpus")}),
        ),
        validity=Validity(valid=not faults, reasons=tuple(faults)),
    )


def _deployment_fields(results: Fields, context: PathContext) -> dict[str, Any]:
    """Return what the file states of the deployment, and for what it does not, the path."""
    settings = results.optional_fields("configurations") or results
    ulysses = settings.optional_integer("ulysses_degree", positive=True, most=10**4) or context.integer("uly")
    ring = settings.optional_integer("ring_degree", positive=True, most=10**4) or context.integer("ring")
    compiled = settings.optional_flag("use_torch_compile")
    if compiled is None and context.settings.get("tc") in ("True", "False"):
        compiled = context.settings["tc"] == "True"
    return {
        "model_id": results.optional_text("model_id") or context.model_id,
        "gpu_model": results.optional_text("gpu_model") or context.gpu_model,
        "num_gpus": ulysses * ring if ulysses and ring else results.optional_integer("num_gpus", positive=True),
        "ulysses_degree": ulysses,
        "ring_degree": ring,
        "torch_compile": compiled,
        "engine": "xdit",
    }


def _workload(results: Fields, task: str | None, context: PathContext) -> Workload:
    frames = results.optional_integer("num_frames", positive=True)
    height, _, width = context.settings.get("size", "").partition("x")
    of_path = {"height": height, "width": width}
    sides = {
        name: results.optional_integer(name, positive=True)
        or (int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 7 else None)
        for name, text in of_path.items()
    }
    video = frames is not None or task == "text-to-video"
    return Workload(
        task=task or ("text-to-video" if video else "text-to-image"),
        output_unit=OutputUnit.VIDEO if video else OutputUnit.IMAGE,
        inference_steps=results.optional_integer("inference_steps", positive=True) or context.integer("steps"),
        height_px=sides["height"] or None,
        width_px=sides["width"] or None,
        num_frames=frames,
        fps_hz=results.optional_number("fps", positive=True),
    )


def _iterations(results: Fields) -> _Iterations:
    if "iteration_energy_measurements" in results.values:
        name = "iteration_energy_measurements"
        entries = [(f"{name}[{position}]", entry) for position, entry in enumerate(results.items(name))]
    else:
        # Older results have one field an iteration.
        numbered = (f"iter{number}_energy_measurement" for number in range(len(results.values)))
        entries = [(name, results.values[name]) for name in numbered if name in results.values]
    if not entries:
        results.refuse("iteration_energy_measurements", "is empty")
    energies_j, times_s, counts = [], [], set()
    for place, entry in entries:
        iteration = Fields(results.file, results.where(place), entry)
        times_s.append(iteration.number("time", positive=True))
        by_gpu = iteration.fields("gpu_energy")
        energies_j.append(sum(by_gpu.number(gpu, positive=True) for gpu in by_gpu.values))
        counts.add(len(by_gpu.values))
    if len(counts) != 1 or 0 in counts:
        results.refuse("iteration_energy_measurements", f"covers different numbers of GPUs: {sorted(counts)}")
    return _Iterations(energies_j=energies_j, times_s=times_s, num_gpus=counts.pop())


def _measured(iterations: _Iterations, batch: int) -> Measured:
    energy_j, time_s = fmean(iterations.energies_j), fmean(iterations.times_s)
    return Measured(
        # A request is for one image or video, so its energy and rate are those of an output.
        energy_per_output_j=energy_j / batch,
        energy_per_request_j=energy_j / batch,
        power_w=energy_j / time_s,
        batch_size=float(batch),
        output_throughput_per_s=batch / time_s,
        request_throughput_per_s=batch / time_s,
        # All requests of a batch end together.
        latency_mean_s=time_s,
        latency_median_s=median(iterations.times_s),
        duration_s=sum(iterations.times_s),
        gpu_energy_j=sum(iterations.energies_j),
        completed_requests=batch * len(iterations.times_s),
    )


IMPORTER = MlenergyDiffusionImporter()
