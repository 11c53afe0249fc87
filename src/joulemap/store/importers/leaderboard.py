"""The ML.ENERGY leaderboard's published JSON: ``index.json``, ``tasks/*.json``, ``models/*.json``.

A row of a task file and the row of the model file that says the same become the same run; a model file
adds the distribution of output lengths. Format: the data folder of the leaderboard's public repository.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from joulemap.errors import ImportFileError
from joulemap.records import (
    Annotations,
    Deployment,
    LengthDistribution,
    Measured,
    Modality,
    OutputUnit,
    Provenance,
    Run,
    Workload,
)
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.gpu_names import short_gpu_name
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source
from joulemap.units import S_PER_MS

SOURCE = "ML.ENERGY leaderboard"
_VLLM, _XDIT = ("vllm", "0.11.1"), ("xdit", "0.4.5")
ENGINES = {
    "2026-02-16": {OutputUnit.TOKEN: _VLLM, OutputUnit.IMAGE: _XDIT, OutputUnit.VIDEO: _XDIT},
}
"""Engine and version by release and output; source: the study on that release, arXiv 2601.22076, section 2."""

_NOT_OF_A_ROW = frozenset({"task", "task_display_name", "configurations", "output_length_distribution"})
_INPUT_MODALITIES = {"image-chat": Modality.IMAGE, "video-chat": Modality.VIDEO}
_LLM_ANNOTATIONS = Annotations(
    missing={
        "mean_input_tokens": "the leaderboard does not publish input lengths",
        "ttft_median_s": "the leaderboard does not publish times to first token",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Release:
    """What ``index.json`` says of a release."""

    date: str | None = None
    nicknames: dict[str, str] = field(default_factory=dict)


class LeaderboardImporter:
    """Reads a release's folder, or a single task or model file of it."""

    name = "mlenergy-leaderboard"
    summary = "ML.ENERGY leaderboard data: a folder with index.json, tasks/ and models/, or one file of it"

    def recognises(self, source: Source) -> bool:
        """Return whether this is a release's folder, or a task or model file."""
        if source.is_folder:
            return (source.path / "index.json").is_file() and (source.path / "tasks").is_dir()
        return {"configurations", "task"} <= source.first.keys()

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read every configuration; a bad row, or a bad file of a folder, is a problem of its own."""
        if given := sorted(hints.given()):
            reason = f"leaderboard data states everything itself; it takes no {', '.join(given)}"
            raise ImportFileError(source.file, None, reason, fix="leave these options out")
        if source.is_folder:
            return _read_folder(source.path)
        index = source.path.absolute().parent.parent / "index.json"
        reading = Reading()
        _read_file(source, _read_release(index, reading) if index.is_file() else _Release(), reading)
        return reading


def _read_folder(folder: Path) -> Reading:
    reading = Reading()
    release = _read_release(folder / "index.json", reading)
    for path in sorted((folder / "tasks").glob("*.json")):
        _read_file(Source(path), release, reading)
    of_models = Reading(problems=reading.problems)
    for path in sorted((folder / "models").glob("*.json")):
        _read_file(Source(path), release, of_models)
    reading.runs = _merged(reading.runs, of_models.runs)
    return reading


def _merged(of_tasks: list[Run], of_models: list[Run]) -> list[Run]:
    """Return the runs of task files, each with its length distribution from a model file, then the rest."""
    by_id = {run.run_id: run for run in of_models}
    merged = []
    for run in of_tasks:
        twin = by_id.pop(run.run_id, None)
        lengths = twin.workload.output_lengths if twin else None
        merged.append(replace(run, workload=replace(run.workload, output_lengths=lengths)) if lengths else run)
    return merged + list(by_id.values())


def _read_release(path: Path, reading: Reading) -> _Release:
    try:
        index = Fields(str(path), "", Source(path).document)
        date = index.optional_text("last_updated")
        models = index.optional_fields("models")
        nicknames = {}
        for model_id in models.values if models else ():
            nickname = models.fields(model_id).optional_text("nickname") if models else None
            if nickname:
                nicknames[model_id] = nickname
        return _Release(date=date, nicknames=nicknames)
    except ImportFileError as error:
        # The rows stand without it: only release, engine and nicknames are then unknown.
        reading.problems.append(error)
        return _Release()


def _read_file(source: Source, release: _Release, reading: Reading) -> None:
    try:
        document = Fields(source.file, "", source.document)
        task = document.text("task")
        rows = document.items("configurations")
    except ImportFileError as error:
        reading.problems.append(error)
        return
    common = {name: value for name, value in document.values.items() if name not in _NOT_OF_A_ROW}
    for position, row in enumerate(rows):
        try:
            fields = _flat_row(source.file, position, common, row)
            provenance = Provenance(
                source=f"{SOURCE} {release.date}" if release.date else SOURCE,
                source_file=f"{source.path.absolute().parent.name}/{source.path.name}",
                source_row=position,
                importer=IMPORTER.name,
            )
            reading.runs.append(_run(fields, task, release, provenance))
        except ImportFileError as error:
            reading.problems.append(error)


def _flat_row(file: str, position: int, common: dict[str, Any], row: object) -> Fields:
    """Return a row with the fields that its file states once, and with its parallelism, on one level."""
    place = f"configurations[{position}]"
    own = Fields(file, place, row)
    parallelism = own.optional_fields("parallelization")
    values = common | (parallelism.values if parallelism else {}) | own.values
    return Fields(file, place, values)


def _run(row: Fields, task: str, release: _Release, provenance: Provenance) -> Run:
    unit = next((unit for unit in OutputUnit if f"energy_per_{unit}_joules" in row.values), None)
    if unit is None:
        row.refuse("energy_per_token_joules", "is missing, and so is energy per image or video")
    engine, version = ENGINES.get(release.date or "", {}).get(unit, (None, None))
    model_id = row.text("model_id")
    deployment = Deployment(
        model_id=model_id,
        nickname=row.optional_text("nickname") or release.nicknames.get(model_id),
        gpu_model=short_gpu_name(row.text("gpu_model")),
        num_gpus=row.integer("num_gpus", positive=True),
        weight_precision=row.optional_text("weight_precision"),
        architecture=row.optional_text("architecture"),
        total_params_billions=row.optional_number("total_params_billions", positive=True),
        activated_params_billions=row.optional_number("activated_params_billions", positive=True),
        tensor_parallel=row.optional_integer("tensor_parallel", positive=True),
        expert_parallel=row.optional_integer("expert_parallel", positive=True),
        data_parallel=row.optional_integer("data_parallel", positive=True),
        ulysses_degree=row.optional_integer("ulysses_degree", positive=True),
        ring_degree=row.optional_integer("ring_degree", positive=True),
        max_num_seqs=row.integer("max_num_seqs", positive=True) if unit is OutputUnit.TOKEN else None,
        engine=engine,
        engine_version=version,
    )
    llm = unit is OutputUnit.TOKEN
    return Run(
        workload=_llm_workload(row, task) if llm else _diffusion_workload(row, task, unit),
        deployment=deployment,
        measured=_llm_measured(row) if llm else _diffusion_measured(row, unit),
        provenance=provenance,
        annotations=_LLM_ANNOTATIONS if llm else Annotations(),
    )


def _llm_workload(row: Fields, task: str) -> Workload:
    return Workload(
        task=task,
        input_modality=_INPUT_MODALITIES.get(task, Modality.TEXT),
        mean_output_tokens=row.number("avg_output_len", positive=True),
        output_lengths=_lengths(row),
    )


def _lengths(row: Fields) -> LengthDistribution | None:
    histogram = row.optional_fields("output_length_distribution")
    if histogram is None:
        return None
    try:
        return LengthDistribution(
            edges=tuple(map(float, histogram.numbers("bins"))),
            counts=tuple(map(int, histogram.numbers("counts"))),
        )
    except ValueError as error:
        row.refuse("output_length_distribution", str(error))


def _llm_measured(row: Fields) -> Measured:
    return Measured(
        energy_per_output_j=row.number("energy_per_token_joules", positive=True),
        energy_per_request_j=row.number("energy_per_request_joules", positive=True),
        power_w=row.number("avg_power_watts", positive=True),
        batch_size=row.number("avg_batch_size", positive=True),
        output_throughput_per_s=row.number("output_throughput_tokens_per_sec", positive=True),
        itl_median_s=row.optional_number("median_itl_ms", scale=S_PER_MS),
        itl_p90_s=row.optional_number("p90_itl_ms", scale=S_PER_MS),
        itl_p95_s=row.optional_number("p95_itl_ms", scale=S_PER_MS),
        itl_p99_s=row.optional_number("p99_itl_ms", scale=S_PER_MS),
    )


def _diffusion_workload(row: Fields, task: str, unit: OutputUnit) -> Workload:
    return Workload(
        task=task,
        output_unit=unit,
        inference_steps=row.integer("inference_steps", positive=True),
        height_px=row.integer(f"{unit}_height", positive=True),
        width_px=row.integer(f"{unit}_width", positive=True),
        num_frames=row.optional_integer("num_frames", positive=True),
        fps_hz=row.optional_number("fps", positive=True),
    )


def _diffusion_measured(row: Fields, unit: OutputUnit) -> Measured:
    energy_j = row.number(f"energy_per_{unit}_joules", positive=True)
    throughput_per_s = row.number(f"throughput_{unit}s_per_sec", positive=True)
    return Measured(
        # A request is for one image or video, so its energy and rate are those of an output.
        energy_per_output_j=energy_j,
        energy_per_request_j=energy_j,
        power_w=row.number("avg_power_watts", positive=True),
        # A diffusion pipeline runs the batch it is given: the configured size is the achieved one.
        batch_size=row.number("batch_size", positive=True),
        output_throughput_per_s=throughput_per_s,
        request_throughput_per_s=throughput_per_s,
        # All requests of a batch end together; the published figure is of the batch.
        latency_median_s=row.number("batch_latency_s", positive=True),
    )


IMPORTER = LeaderboardImporter()
