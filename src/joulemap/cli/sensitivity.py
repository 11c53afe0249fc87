"""``joulemap sensitivity RUN``, or the options of a configuration that nobody ran."""

from __future__ import annotations

import polars as pl

from joulemap.catalog import load_catalog
from joulemap.cli.output import Common, console, note, print_json, print_table
from joulemap.cli.predict import System, Work, check_demand, deployment_of, workload_of
from joulemap.diagnose.configuration import configuration_table
from joulemap.diagnose.explain import label
from joulemap.diagnose.modelled import modelled_forms
from joulemap.diagnose.sensitivity import Elasticity, sensitivity
from joulemap.errors import UsageError
from joulemap.predict.forms import Models
from joulemap.predict.predict import shipped_calibration
from joulemap.store.selector import find_run

CAPACITY_NOTE = "memory_capacity counts as if memory held the batch; where it does not, more of it changes nothing"
_BAR = 24
"""Widest bar of the tornado, in characters."""


def show_sensitivity(
    run: str | None = None,
    /,
    *,
    system: System | None = None,
    work: Work | None = None,
    common: Common | None = None,
) -> None:
    """Say by how many percent energy, latency and throughput change with one percent more of each quantity.

    Args:
        run: A run id (its beginning is enough), or a selector that names one run.
        system: Instead of a run: model, GPUs, precision, parallelism.
        work: With these: task or lengths, and batch, concurrency or rate.
        common: Store and output.
    """
    options = common or Common()
    frame, models = _asked(run, system, work, options)
    forms = modelled_forms(frame, models=models)
    if not forms:
        msg = "the model does not know this run's model, GPU or batch"
        raise UsageError(msg, fix="'joulemap diagnose' says what measurements alone tell")
    found = sensitivity(forms[0])
    row = frame.row(0, named=True)
    if options.json:
        named = {"run_id": row["run_id"] or None, "label": label(row)}
        print_json({**named, "elasticities": [e.to_json() for e in found], "notes": [CAPACITY_NOTE]})
        return
    _print(label(row), found)


def _asked(
    run: str | None, system: System | None, work: Work | None, options: Common
) -> tuple[pl.DataFrame, Models | None]:
    if run is not None and system is None and work is None:
        store = options.open()
        return pl.DataFrame([find_run(store, run)], schema=store.frame.schema, strict=False), None
    if run is not None or system is None:
        msg = "either a run or a configuration is needed, and not both"
        raise UsageError(msg, fix="joulemap sensitivity RUN, or joulemap sensitivity --model MODEL --gpu GPU")
    asked = work or Work()
    check_demand(asked)
    deployment, models = deployment_of(system)
    table, known, estimate = configuration_table(
        workload_of(asked),
        deployment,
        batch_size=asked.batch,
        calibration=shipped_calibration(),
        catalog=load_catalog(),
        models=models,
    )
    for warning in estimate.warnings:
        note(f"note: {warning}")
    return table, known


def _print(name: str, found: tuple[Elasticity, ...]) -> None:
    console().print(f"{name}\n")
    console().print("change of energy per output, latency and throughput for 1 % more of each (modelled)")
    widest = max((abs(e.energy_elasticity) for e in found), default=1.0)
    rows = []
    for e in found:
        length = round(_BAR * abs(e.energy_elasticity) / widest)
        bar = ("-" if e.energy_elasticity < 0 else "+") * max(length, 1)
        rows.append(
            [
                e.name,
                e.kind.value,
                bar,
                f"{e.energy_elasticity:+.2f} %",
                f"{e.low:+.2f} to {e.high:+.2f}",
                f"{e.latency_elasticity:+.2f} %",
                f"{e.throughput_elasticity:+.2f} %",
            ]
        )
    headings = ["quantity", "whose", "", "energy", "90 % interval", "latency", "throughput"]
    print_table("", headings, rows, left=3)
    if any(e.name == "memory_capacity" for e in found):
        note(CAPACITY_NOTE)
