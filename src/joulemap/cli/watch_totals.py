"""What was used since watching began, as a table whose shares sum to what was metered."""

from __future__ import annotations

from joulemap.cli.output import figure, note, print_table
from joulemap.watch.snapshot import Snapshot

SHOWN = 20


def print_totals(snapshot: Snapshot) -> None:
    """Print the bill."""
    totals = snapshot.totals
    if not totals.work_energy_j:
        why = next((s.reason for s in snapshot.sources.values() if not s.up), "watched for less than an interval")
        note(f"nothing was metered: {why}")
        return
    print_table(
        f"{figure(totals.work_energy_j)} J ({snapshot.basis}) of {snapshot.meter} beside {snapshot.server}",
        ["account", "J", "share", "J prefill", "J decode", "requests", "output tokens", "J/token"],
        bill_rows(snapshot),
    )
    if totals.accounts:
        note(f"what each account used is {snapshot.share_basis}: no meter tells apart requests that run together")
    if totals.unmetered_s:
        note(f"{totals.unmetered_s:.0f} s were not metered, and are in none of these figures")
    for reason, count in totals.rejected_lines.items():
        note(f"{count} request lines were not used: {reason}")
    if totals.late_requests:
        note(f"{totals.late_requests} requests were logged too late to be billed: give a longer --settle")


def bill_rows(snapshot: Snapshot) -> list[list[str]]:
    """Return a row for each account, the largest first, and for what belongs to none; they sum to the total."""
    totals = snapshot.totals
    whole = totals.work_energy_j or 1.0
    ranked = sorted(totals.accounts, key=lambda pair: -pair[1].energy_j)
    rows = [
        [
            " ".join(name for name in account if name) or "(unnamed)",
            figure(total.energy_j),
            f"{total.energy_j / whole:.1%}",
            figure(total.prefill_energy_j),
            figure(total.decode_energy_j),
            str(total.requests),
            figure(total.output_tokens),
            figure(total.energy_j / total.output_tokens if total.output_tokens else None),
        ]
        for account, total in ranked[:SHOWN]
    ]
    rest = [total for _, total in ranked[SHOWN:]]
    shares = {
        f"{len(rest)} more accounts": sum(total.energy_j for total in rest),
        "idle": totals.idle_energy_j,
        "unattributed": totals.unattributed_energy_j,
        "pending": totals.pending_energy_j,
    }
    return rows + [
        [name, figure(joules), f"{joules / whole:.1%}", *["–"] * 5] for name, joules in shares.items() if joules
    ]
