"""``joulemap diagnose RUN``, or the options of a configuration that nobody ran."""

from __future__ import annotations

from pathlib import Path

from joulemap.catalog import DiffusionArchitecture, ModelArchitecture
from joulemap.catalog.user_model import read_user_model
from joulemap.cli.output import Common, console, figure, note, print_json, print_table
from joulemap.cli.predict import System, Work, check_demand, deployment_of, workload_of
from joulemap.diagnose.configuration import diagnose_configuration
from joulemap.diagnose.diagnose import diagnose
from joulemap.diagnose.diagnosis import Change, Diagnosis
from joulemap.errors import UsageError
from joulemap.report.numbers import quantity_cells

_FINDINGS_SHOWN = 4


def diagnose_run(
    run: str | None = None,
    /,
    *,
    architecture: Path | None = None,
    system: System | None = None,
    work: Work | None = None,
    common: Common | None = None,
) -> None:
    """Say where the joules of a run, or of a configuration that nobody ran, go, what binds it, and what to change.

    Args:
        run: A run id (its beginning is enough), or a selector that names one run.
        architecture: The config.json of the run's model, where the catalog does not know it.
        system: Instead of a run: model, GPUs, precision, parallelism.
        work: With these: task or lengths, and batch, concurrency or rate.
        common: Store and output.
    """
    options = common or Common()
    if run is not None and (system is not None or work is not None):
        msg = f"both the run {run!r} and options of a configuration are given"
        raise UsageError(msg, fix="name a run, or --model and --gpu, not both")
    if run is not None:
        diagnosis = diagnose(run, store=options.open(), architecture=_read(architecture))
    elif system is not None:
        asked = work or Work()
        check_demand(asked)
        deployment, models = deployment_of(system)
        diagnosis = diagnose_configuration(workload_of(asked), deployment, batch_size=asked.batch, models=models)
    else:
        msg = "neither a run nor a configuration is given"
        raise UsageError(msg, fix="joulemap diagnose RUN, or joulemap diagnose --model MODEL --gpu GPU")
    if options.json:
        print_json(diagnosis.to_json())
    else:
        print_diagnosis(diagnosis)


def _read(architecture: Path | None) -> ModelArchitecture | DiffusionArchitecture | None:
    return read_user_model(architecture) if architecture is not None else None


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print a diagnosis on the console."""
    out = console()
    unit = f"J/{diagnosis.output_unit}"
    out.print(f"{diagnosis.label}  [{diagnosis.run_id or 'not measured'}]\n")
    total, ideal = diagnosis.total_j_per_output, diagnosis.ideal_j_per_output
    out.print(f"{figure(total)} {unit} ({diagnosis.total_basis.value}), {_bound(diagnosis)}", end="")
    following = f", before {diagnosis.next_bound.value}" if diagnosis.next_bound else ""
    out.print(f" (margin {diagnosis.bound_margin:.2f}x{following})" if diagnosis.bound_by else "")
    steps = " · ".join(f"{f.ratio:.2f}x {f.name}" for f in diagnosis.above_ideal if abs(f.ratio - 1) >= 0.005)
    out.print(f"{total / ideal:.1f}x above the ideal of {figure(ideal)} {unit}: {steps or 'nothing between'}")
    rows = [
        [
            part.part.value,
            figure(part.joules_per_output),
            f"{part.joules_per_output / total:.0%}",
            f"{figure(part.low)}–{figure(part.high)}",
            part.basis.value,
        ]
        for part in diagnosis.ledger
        if part.joules_per_output > 0
    ]
    print_table("where the joules went", ["part", unit, "share", "90 % interval", "basis"], rows)
    rows = [[name, *quantity_cells(q)] for name, q in diagnosis.latents.items()]
    print_table("latents", ["latent", "value", "unit", "90 % interval", "basis"], rows)
    for number, finding in enumerate(diagnosis.findings[:_FINDINGS_SHOWN], start=1):
        out.print(f"{number}. {finding.cause}  ({finding.name}, confidence {finding.confidence:.0%})")
        for line in finding.evidence:
            out.print(f"     shown by: {line}")
        out.print(f"     change:   {finding.lever}")
        if finding.change.energy_ratio is not None:
            out.print(f"     it buys:  {_bought(finding.change)}")
        out.print(f"     wrong if: {finding.falsified_by}\n")
    if len(diagnosis.findings) > _FINDINGS_SHOWN:
        further = ", ".join(finding.name for finding in diagnosis.findings[_FINDINGS_SHOWN:])
        out.print(f"also found: {further} (--json tells all)\n")
    if not diagnosis.findings:
        out.print("nothing stands out.")
    for text in diagnosis.notes:
        note(f"note: {text}")


def _bound(diagnosis: Diagnosis) -> str:
    return f"bound by {diagnosis.bound_by.value}" if diagnosis.bound_by else "bound by nothing that shows"


def _bought(change: Change) -> str:
    energy, low, high = change.energy_ratio, change.energy_ratio_min, change.energy_ratio_max
    parts = [f"{100 * ((energy or 1) - 1):+.0f} % energy per output"]
    if low is not None and high is not None:
        parts[0] += f" (90 %: {100 * (low - 1):+.0f} to {100 * (high - 1):+.0f} %)"
    if change.latency_ratio is not None:
        parts.append(f"{100 * (change.latency_ratio - 1):+.0f} % latency")
    if change.throughput_ratio is not None:
        parts.append(f"{100 * (change.throughput_ratio - 1):+.0f} % throughput")
    return ", ".join(parts) + f"; {change.basis.value}"
