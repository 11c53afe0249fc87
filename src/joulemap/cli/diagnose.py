"""``joulemap diagnose RUN``."""

from __future__ import annotations

from joulemap.cli.output import Common, console, figure, note, print_json, print_table
from joulemap.diagnose.diagnose import diagnose
from joulemap.diagnose.diagnosis import Change, Diagnosis

_FINDINGS_SHOWN = 4


def diagnose_run(run: str, /, *, common: Common | None = None) -> None:
    """Say where a run's joules went, what bound it, and what to change.

    Args:
        run: A run id (its beginning is enough), or a selector that names one run.
        common: Store and output.
    """
    options = common or Common()
    diagnosis = diagnose(run, store=options.open())
    if options.json:
        print_json(diagnosis.to_json())
    else:
        print_diagnosis(diagnosis)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print a diagnosis on the console."""
    out = console()
    unit = f"J/{diagnosis.output_unit}"
    out.print(f"{diagnosis.label}  [{diagnosis.run_id or 'not measured'}]\n")
    total, ideal = diagnosis.total_j_per_output, diagnosis.ideal_j_per_output
    out.print(
        f"{figure(total)} {unit} ({diagnosis.total_basis.value}), bound by {diagnosis.bound_by.value}", end=""
    )
    following = f", before {diagnosis.next_bound.value}" if diagnosis.next_bound else ""
    out.print(f" (margin {diagnosis.bound_margin:.2f}x{following})")
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
    rows = [
        [
            name,
            figure(q.value),
            q.unit,
            "–" if q.low is None else f"{figure(q.low)}–{figure(q.high)}",
            q.basis.value,
        ]
        for name, q in diagnosis.latents.items()
    ]
    print_table("latents", ["latent", "value", "unit", "90 % interval", "basis"], rows)
    for number, finding in enumerate(diagnosis.findings[:_FINDINGS_SHOWN], start=1):
        out.print(f"{number}. {finding.cause}  ({finding.name}, confidence {finding.confidence:.0%})")
        for line in finding.evidence:
            out.print(f"     shown by: {line}")
        out.print(f"     change:   {finding.lever}")
        if finding.change.energy_ratio is not None:
            out.print(f"     it buys:  {_bought(finding.change)}")
        out.print(f"     wrong if: {finding.falsified_by}\n")
    if not diagnosis.findings:
        out.print("nothing stands out.")
    for text in diagnosis.notes:
        note(f"note: {text}")


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
