"""What the results of all load clients share: the user's hints, the power log, the verdict, the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from joulemap.errors import ImportFileError
from joulemap.records import Annotations, Basis, Deployment, Measured, Provenance, Run, Validity, Workload
from joulemap.store.importers.gpu_names import short_gpu_name
from joulemap.store.importers.power_log import energy_over, read_power_log
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source

LARGEST_FAILED_SHARE = 0.01
"""With more failed requests than this, the engine did not do the work that the figures claim."""
SHORTEST_ENERGY_WINDOW_S = 5.0
"""Energy counters and power sensors update up to ten times slower than they are read."""
LARGEST_METER_DISAGREEMENT = 0.1

IN_FLIGHT_NOTE = "batch_size is the client's mean of requests in flight, those in the engine's queue included"
RAMPS_NOTE = "the window is the whole benchmark, ramp-up and drain included"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnergy:
    """Energy that the load client measured by itself, over the same window."""

    energy_j: float
    meter: str
    notes: tuple[str, ...] = ()
    """What a careful reader should know of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRun:
    """One benchmark as its load client reports it."""

    workload: Workload
    deployment: Deployment
    measured: Measured
    """Everything but energy and power."""
    provenance: Provenance
    output_tokens: float | None
    """Tokens generated in the window."""
    window_s: tuple[float, float] | None
    """Start and end of the window in Unix seconds."""
    no_window: str = "the file has no wall-clock times to align a power log with"
    tool_energy: ToolEnergy | None = None
    requested: int | None = None
    """Requests that were to be sent."""
    faults: tuple[str, ...] = ()
    """Why the run is invalid."""
    remarks: tuple[str, ...] = ()
    """What a careful reader of a valid run should know."""
    missing: dict[str, str] = field(default_factory=dict)


def deployment_of(source: Source, place: str, hints: ImportHints, **stated: Any) -> Deployment:
    """Return the deployment that the file states, with the user's hints over it.

    Raises:
        ImportFileError: Neither states the model.
    """
    given = {
        name: getattr(hints, name)
        for name in ("model_id", "gpu_model", "num_gpus")
        if getattr(hints, name) is not None
    }
    settings = {**stated, **given}
    if not settings.get("model_id"):
        raise ImportFileError(source.file, place or None, "states no model", fix="name it with --model")
    if settings.get("gpu_model"):
        settings["gpu_model"] = short_gpu_name(settings["gpu_model"])
    return Deployment(**settings)


def override_notes(hints: ImportHints, **stated: object) -> tuple[str, ...]:
    """Return a note for each hint that outranks a different statement of the file."""
    return tuple(
        f"{name} was given at import; the file says {said}"
        for name, said in stated.items()
        if said is not None and getattr(hints, name) not in (None, said)
    )


def add_run(reading: Reading, client: ClientRun, source: Source, hints: ImportHints) -> None:
    """Attach energy and verdict to a client's run, and add it to the reading."""
    energy, missing = _energy(reading, client, source, hints)
    measured, deployment, provenance = client.measured, client.deployment, client.provenance
    remarks = list(client.remarks)
    if energy is not None:
        measured = _with_energy(measured, energy.energy_j, client.output_tokens)
        remarks += energy.notes
        provenance = replace(provenance, meter=energy.meter)
        deployment = replace(
            deployment,
            num_gpus=deployment.num_gpus or energy.num_gpus,
            gpu_model=deployment.gpu_model or (short_gpu_name(energy.gpu_name) if energy.gpu_name else None),
        )
    faults = list(client.faults) + _faults(measured, client.requested)
    absent = {name: why for name, why in client.missing.items() if getattr(measured, name) is None}
    basis = {"batch_size": Basis.ASSUMED} if measured.batch_size is not None else {}
    reading.runs.append(
        Run(
            workload=client.workload,
            deployment=deployment,
            measured=measured,
            provenance=provenance,
            validity=Validity(valid=not faults, reasons=(*faults, *remarks)),
            annotations=Annotations(basis=basis, missing={**absent, **missing}),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Energy:
    energy_j: float
    meter: str
    num_gpus: int | None = None
    gpu_name: str | None = None
    notes: tuple[str, ...] = ()


def _energy(
    reading: Reading, client: ClientRun, source: Source, hints: ImportHints
) -> tuple[_Energy | None, dict[str, str]]:
    """Return the energy, or why there is none: from a log that the user names, the tool, or a log beside."""
    own = client.tool_energy
    path = hints.power_csv or (None if own else power_log_beside(source.path))
    if path is None:
        if own is not None:
            return _Energy(energy_j=own.energy_j, meter=own.meter, notes=own.notes), {}
        return None, _no_energy("the file has no energy and no power log is beside it; give one with --power")
    try:
        if client.window_s is None:
            raise ImportFileError(source.file, None, client.no_window)
        log = read_power_log(path, hints.power_timezone)
        found = energy_over(log, *client.window_s, client.deployment.num_gpus)
    except ImportFileError as error:
        # A log that was only found beside the file need not be meant for it; one that was named must fit.
        if hints.power_csv:
            reading.problems.append(error)
        return None, _no_energy(f"the power log cannot be used: {error.message}")
    meter = f"power log {path.name}, trapezoidal rule"
    return _Energy(energy_j=found.energy_j, meter=meter, num_gpus=found.num_gpus, gpu_name=found.gpu_name), {}


def power_log_beside(path: Path) -> Path | None:
    """Return the power log that lies beside a result under one of the expected names."""
    names = (f"{path.stem}.power.csv", f"{path.stem}_power.csv", "power.csv")
    return next((beside for name in names if (beside := path.parent / name).is_file()), None)


def _no_energy(reason: str) -> dict[str, str]:
    return dict.fromkeys(("gpu_energy_j", "power_w", "energy_per_output_j", "energy_per_request_j"), reason)


def _with_energy(measured: Measured, energy_j: float, output_tokens: float | None) -> Measured:
    duration_s, completed = measured.duration_s, measured.completed_requests
    return replace(
        measured,
        gpu_energy_j=energy_j,
        power_w=energy_j / duration_s if duration_s else None,
        # All energy of the window, prefill and idle gaps included, over the tokens that came out.
        energy_per_output_j=energy_j / output_tokens if output_tokens else None,
        energy_per_request_j=energy_j / completed if completed else None,
    )


def _faults(measured: Measured, requested: int | None) -> list[str]:
    faults = []
    completed, failed = measured.completed_requests, measured.failed_requests or 0
    if completed is not None and requested is not None:
        failed = max(failed, requested - completed)
    if completed is not None and failed > LARGEST_FAILED_SHARE * (completed + failed):
        faults.append(f"{failed:,} of {completed + failed:,} requests did not complete")
    if measured.gpu_energy_j is not None and (measured.duration_s or 0.0) < SHORTEST_ENERGY_WINDOW_S:
        faults.append(f"a window of {measured.duration_s or 0.0:.2g} s is too short to measure energy")
    return faults
