"""``joulemap sweep``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.cli.sweep_view import SweepView
from joulemap.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, InputError, UnknownNameError, UsageError
from joulemap.measure.session.interrupts import ended_like_ctrl_c
from joulemap.measure.sweep.chooser import Chooser, WholeGrid
from joulemap.measure.sweep.conduct import Sweep, SweepResult
from joulemap.measure.sweep.executors.executor import Executor
from joulemap.measure.sweep.spec import Configuration, SweepSpec
from joulemap.measure.sweep.sweep_file import SWEEP_FILE, parse_sweep
from joulemap.report.payloads.run_record import run_json
from joulemap.store.run_store import RunStore
from joulemap.units import J_PER_KJ, J_PER_KWH, S_PER_HOUR

if TYPE_CHECKING:
    import polars as pl

SWITCH = Parameter(negative="")
REPEATABLE = Parameter(negative="")
SHOWN_LEFT_OUT = 5


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Where and how much of a sweep runs."""

    ray: str | None = None
    """Run on the Ray cluster at this address, for example 10.0.0.1:6379, or auto."""
    only: Annotated[tuple[str, ...], REPEATABLE] = ()
    """Only the configuration of this id; may be given again. --dry-run lists the ids."""
    retry_failed: Annotated[bool, SWITCH] = False
    """Try those again, too, that did not fit or were refused before."""
    dry_run: Annotated[bool, SWITCH] = False
    """List what would run, with predicted time and energy, and run nothing."""
    emit: Literal["slurm", "k8s"] | None = None
    """Write job files for a scheduler, and run nothing."""
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path()
    """Folder for the job files; by default the current one."""
    force: Annotated[bool, SWITCH] = False
    """Overwrite job files."""


def run_sweep(
    file: Path,
    /,
    *,
    options: SweepOptions | None = None,
    common: Common | None = None,
) -> int:
    """Measure a grid of configurations, here or on a Ray cluster; what is finished is never measured again.

    Args:
        file: The sweep file (TOML).
        options: Where and how much of it runs.
        common: Store and output.
    """
    asked, output = options or SweepOptions(), common or Common()
    text = SWEEP_FILE.text_of(file)
    spec = parse_sweep(text, name=str(file))
    known = [c.configuration_id for c in spec.configurations]
    for name in asked.only:
        if name not in known:
            kind = "configuration"
            raise UnknownNameError(kind, name, known, fix=f"'joulemap sweep {file} --dry-run' lists the ids")
    if asked.emit is not None:
        return _emit(spec, text, file, asked, output)
    store = output.open()
    if asked.dry_run:
        return _dry_run(spec, store, asked, json=output.json)
    return _conduct(spec, store, asked, output, file)


def _conduct(spec: SweepSpec, store: RunStore, asked: SweepOptions, output: Common, file: Path) -> int:
    # Who names configurations wants them, whatever they are worth; so do the jobs of a scheduler.
    chooser = WholeGrid() if asked.only else _chooser(spec)
    # Ray writes what it has to say of its nodes to stdout, which is the result's alone.
    with redirect_stdout(sys.stderr):
        result = _result(spec, store, asked, chooser)
    return _report(spec, result, store, file, json=output.json)


def _result(spec: SweepSpec, store: RunStore, asked: SweepOptions, chooser: Chooser) -> SweepResult:
    executor = _executor(asked.ray)
    try:
        with SweepView(spec) as view, ended_like_ctrl_c():
            sweep = Sweep(spec, store, executor, chooser, view, only=asked.only, retry_failed=asked.retry_failed)
            view.tell(f"{len(sweep.result.before)} of {sweep.result.total} configurations are in the store already")
            return sweep.run()
    finally:
        executor.close()


def _executor(address: str | None) -> Executor:
    if address is None:
        from joulemap.measure.sweep.executors.local import LocalExecutor

        return LocalExecutor()
    from joulemap.measure.sweep.executors.ray_cluster import RayExecutor

    return RayExecutor(address)


def _chooser(spec: SweepSpec) -> Chooser:
    told = spec.adaptive
    if told is None:
        return WholeGrid()
    from joulemap.optimize.frontier_search import FrontierSearch, Goal

    return FrontierSearch(
        [c.configuration_id for c in spec.configurations],
        grid_table(spec.configurations),
        goal=Goal(
            regret_fraction=told.regret_fraction,
            budget_fraction=told.budget_fraction,
            saturation_fraction=told.saturation_fraction,
        ),
    )


def grid_table(configurations: tuple[Configuration, ...]) -> pl.DataFrame:
    """Return configurations as rows of the run table, as far as they say something."""
    import polars as pl

    from joulemap.measure.load.task import task_workload

    rows = []
    for c in configurations:
        workload = task_workload(c.task)
        rows.append(
            {
                "model_id": c.model,
                "task": c.task,
                "output_unit": str(workload.output_unit),
                "input_modality": str(workload.input_modality),
                "gpu_model": c.gpu,
                "num_gpus": c.count,
                "weight_precision": c.precision,
                "tensor_parallel": c.count,
                "batch_ceiling": float(c.batch),
                "max_num_seqs": c.batch,
                "mean_input_tokens": float(c.input_tokens) if c.input_tokens else workload.mean_input_tokens,
                "mean_output_tokens": float(c.output_tokens) if c.output_tokens else workload.mean_output_tokens,
            }
        )
    floats = dict.fromkeys(("mean_input_tokens", "mean_output_tokens"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides={**floats, "gpu_model": pl.String, "weight_precision": pl.String})


def _dry_run(spec: SweepSpec, store: RunStore, asked: SweepOptions, *, json: bool) -> int:
    from joulemap.measure.sweep.failures import measured_runs
    from joulemap.optimize.sweep_forecast import forecast

    done = measured_runs(store, [c.configuration_id for c in spec.configurations])
    chosen = [c for c in spec.configurations if not asked.only or c.configuration_id in asked.only]
    said = forecast(grid_table(tuple(chosen)))
    listed = []
    for c, row in zip(chosen, said.iter_rows(named=True), strict=True):
        power_w = row["power_w"]
        # What an attempt takes at most: the engine's start, which uses little power, is not known beforehand.
        most_s = spec.pace.max_duration_s
        listed.append(
            {
                **c.to_json(),
                "measured": c.configuration_id in done,
                "predicted": {k: v for k, v in row.items() if v is not None},
                "basis": "modelled" if power_w is not None else None,
                "measuring_time_at_most_s": most_s,
                "energy_at_most_j": None if power_w is None else power_w * most_s,
            }
        )
    if json:
        print_json({"sweep": spec.name, "excluded": spec.excluded, "configurations": listed})
        return EXIT_DONE
    _print_plan(spec, chosen, listed)
    return EXIT_DONE


def _print_plan(spec: SweepSpec, chosen: list[Configuration], listed: list[dict[str, Any]]) -> None:
    rows = []
    for c, entry in zip(chosen, listed, strict=True):
        told, energy_j = entry["predicted"], entry["energy_at_most_j"]
        state = "in the store" if entry["measured"] else "may not fit" if told.get("fits") is False else ""
        rows.append(
            [
                entry["configuration_id"],
                c.words,
                state,
                figure(told.get("energy_per_output_j")),
                figure(told.get("power_w")),
                figure(entry["measuring_time_at_most_s"]),
                figure(None if energy_j is None else energy_j / J_PER_KJ),
            ]
        )
    columns = ["id", "configuration", "", "J/output", "W", "at most s", "at most kJ"]
    print_table(f"{spec.name}: predictions are modelled", columns, rows, left=3)
    left = [(c, entry) for c, entry in zip(chosen, listed, strict=True) if not entry["measured"]]
    gpu_s = sum(entry["measuring_time_at_most_s"] * c.count for c, entry in left if c.gpu is not None)
    energy_j = sum(entry["energy_at_most_j"] or 0.0 for _, entry in left)
    note(f"{len(left)} of {len(chosen)} to measure; {spec.excluded} points are excluded")
    note(
        f"at most {gpu_s / S_PER_HOUR:,.1f} GPU-hours of measuring and {energy_j / J_PER_KWH:,.1f} kWh, "
        "engine starts apart"
    )
    if spec.adaptive is not None:
        note("adaptive: what is not worth it is left out as the sweep goes on")
    reasons = dict.fromkeys(entry["predicted"].get("unpredicted") for entry in listed)
    for reason in filter(None, reasons):
        note(f"no prediction: {reason}")


def _emit(spec: SweepSpec, text: str, file: Path, asked: SweepOptions, output: Common) -> int:
    if asked.dry_run:
        msg = "--emit and --dry-run do two different things"
        raise UsageError(msg, fix="give one of them")
    if asked.emit == "slurm":
        from joulemap.measure.sweep.emit.slurm import slurm_files

        files = slurm_files(spec, str(file.resolve()), output.store, asked.only)
    else:
        from joulemap.measure.sweep.emit.kubernetes import kubernetes_files

        files = kubernetes_files(spec, text, output.store, asked.only)
    paths = {asked.output / name: content for name, content in files.items()}
    there = [str(path) for path in paths if path.exists()]
    if there and not asked.force:
        msg = f"{', '.join(there)} would be overwritten"
        raise UsageError(msg, fix="--force overwrites them, -o DIR writes elsewhere")
    try:
        asked.output.mkdir(parents=True, exist_ok=True)
        for path, content in paths.items():
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        msg = f"{asked.output} cannot be written: {error.strerror or error}"
        raise InputError(msg, fix="give another folder with -o DIR") from error
    if output.json:
        print_json({"sweep": spec.name, "files": [str(path) for path in paths]})
    for path in paths:
        note(f"Wrote {path}")
    return EXIT_DONE


def _report(spec: SweepSpec, result: SweepResult, store: RunStore, file: Path, *, json: bool) -> int:
    by_id = {c.configuration_id: c for c in spec.configurations}
    if json:
        print_json(
            {
                "sweep": result.name,
                "store": store.address,
                "total": result.total,
                "before": list(result.before),
                "runs": {key: run_json(run) for key, run in result.runs.items()},
                "without_run": {
                    key: {"end": f.end, "reason": f.reason, "attempts": f.attempts}
                    for key, f in result.failures.items()
                },
                "left_out": result.left_out,
                "attempts": [attempt.to_json() for attempt in result.attempts],
                "interrupted": result.interrupted,
            }
        )
    for key, failure in result.failures.items():
        note(f"no run: {by_id[key].words}: {failure.end}: {failure.reason} ({failure.attempts} attempts)")
    reasons: dict[str, int] = {}
    for reason in result.left_out.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])[:SHOWN_LEFT_OUT]:
        note(f"left out {count}: {reason}")
    note(
        f"{result.name}: {result.measured} of {result.total} measured ({len(result.runs)} now, "
        f"{len(result.before)} before), {len(result.failures)} without a run, "
        f"{len(result.left_out)} left out; in {store.address}"
    )
    if result.interrupted:
        note(f"interrupted; go on with the same command: joulemap sweep {file}")
        return EXIT_INTERRUPTED
    return EXIT_BAD_INPUT if result.failures else EXIT_DONE
