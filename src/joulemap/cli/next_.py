"""``joulemap next``."""

from __future__ import annotations

from joulemap.cli.choice_options import LimitOptions, ScopeOptions, constraints_of, scope_of
from joulemap.cli.output import Common, console, figure, note, print_json, print_table
from joulemap.optimize.choice import words
from joulemap.optimize.information import next_measurements


def list_next_measurements(
    *,
    model: str,
    task: str,
    limits: LimitOptions | None = None,
    scope: ScopeOptions | None = None,
    count: int = 10,
    common: Common | None = None,
) -> None:
    """List the measurements that would most reduce the uncertainty of a choice, as commands to run.

    Args:
        model: Model id or nickname.
        task: A task of the store.
        limits: What has to be kept.
        scope: What may be chosen.
        count: How many to list.
        common: Store and output.
    """
    options = common or Common()
    store = options.open()
    chosen = scope_of(model, task, scope or ScopeOptions())
    found = next_measurements(chosen, constraints_of(limits or LimitOptions()), count=count, store=store)
    if options.json:
        print_json([m.to_json() for m in found])
        return
    rows = [
        [
            str(number),
            words(m.row),
            f"{m.worth_fraction:.2%}",
            f"{m.change_probability:.0%}",
            f"{m.keeps_probability:.0%}",
            figure(m.row["energy_per_output_j"]),
            f"{figure(m.row['energy_per_output_j_low'])}–{figure(m.row['energy_per_output_j_high'])}",
            m.row["basis"],
        ]
        for number, m in enumerate(found, start=1)
    ]
    unit = f"J/{found[0].row['output_unit']}"
    columns = ["", "configuration", "worth", "changes the choice", "keeps limits", unit, "90 % interval", "basis"]
    print_table("measurements most worth making", columns, rows, left=2)
    out = console()
    for number, measurement in enumerate(found, start=1):
        out.print(f"{number}. {measurement.command}", soft_wrap=True)
    note("worth: expected saving of energy by choosing after the measurement rather than before")
