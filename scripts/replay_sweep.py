"""Replay adaptive sweeps on measured runs: how much of a grid is measured, and how good the frontiers then are.

Each backbone is swept as if nobody had measured it: the model is calibrated on all other backbones' runs, and what
the search asks to measure is looked up. The error model's kernels are those of the shipped calibration, as in
``joulemap backtest``. Run it from a checkout, with the study's runs in a store::

    uv run python scripts/replay_sweep.py --store STORE
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from joulemap.catalog import load_catalog
from joulemap.diagnose.series import base_model, with_series_columns
from joulemap.optimize.frontier_search import TIME, FrontierSearch, Goal, true_regret
from joulemap.predict.calibration import ENERGY, Calibration, fit_form, usable_runs
from joulemap.predict.forms import QUANTITIES, FormName, form_rows, layout, measured_logs
from joulemap.predict.predict import shipped_calibration
from joulemap.store.run_store import open_store

GRID_COLUMNS = (
    *("model_id", "task", "output_unit", "input_modality", "gpu_model", "num_gpus", "weight_precision"),
    *("kv_cache_precision", "tensor_parallel", "expert_parallel", "data_parallel", "ulysses_degree", "ring_degree"),
    *("batch_ceiling", "max_num_seqs", "mean_input_tokens", "mean_output_tokens", "inference_steps", "height_px"),
    *("width_px", "num_frames"),
)
"""What a sweep file states of a configuration, or the catalog of its task; nothing that was measured."""
FIT_LIMIT = 12
"""Steps of a fit that starts from the shipped one."""
GOAL_REGRET = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One frontier after a replay."""

    backbone: str
    model: str
    task: str
    points: int
    measured: int
    on_frontier: int
    regret_mean_fraction: float
    """Mean over the true frontier's points."""
    regret_worst_fraction: float


def replays(frame: pl.DataFrame, goal: Goal, only: Sequence[str] = ()) -> Iterator[Replayed]:
    """Yield every frontier of the runs after an adaptive sweep of its backbone.

    Args:
        frame: The run table.
        goal: When the search has seen enough.
        only: Backbones to keep to; all by default.
    """
    catalog = load_catalog()
    runs = with_series_columns(frame).filter(pl.col("valid") & (pl.col(ENERGY) > 0))
    for form in QUANTITIES:
        own = usable_runs(runs, form, catalog, catalog.models)
        backbones = np.array([catalog.models[i].backbone for i in own["model_id"]])
        for backbone in sorted(set(backbones)):
            if not only or backbone in only:
                calibration = _held_out(form, own, backbones, backbone)
                yield from _replay(form, backbone, own.filter(pl.Series(backbones == backbone)), calibration, goal)


def _held_out(
    form: FormName, runs: pl.DataFrame, backbones: np.ndarray[tuple[int], np.dtype[np.str_]], out: str
) -> Calibration:
    """Return the shipped calibration with coefficients that have not seen the runs of one backbone."""
    catalog, shipped = load_catalog(), shipped_calibration()
    fitted = shipped.forms[form]
    rows = form_rows(form, runs, catalog, catalog.models, layout(form, fitted.gpus))
    kept = np.flatnonzero(backbones != out)
    codes = np.unique(backbones[kept], return_inverse=True)[1]
    measured = measured_logs(form, runs)[:, kept]
    fit = fit_form(rows.take(kept), measured, codes, start=fitted.vector, limit=FIT_LIMIT)
    return replace(shipped, forms={**shipped.forms, form: replace(fitted, vector=fit.vector)})


def _replay(
    form: FormName, backbone: str, runs: pl.DataFrame, calibration: Calibration, goal: Goal
) -> Iterator[Replayed]:
    ids = runs["run_id"].to_list()
    grid = runs.select(c for c in GRID_COLUMNS if c in runs.columns)
    search = FrontierSearch(ids, grid, goal=goal, calibration=calibration)
    rows = {row["run_id"]: row for row in runs.iter_rows(named=True)}
    asked: list[str] = []
    while (name := search.next([i for i in ids if i not in asked], ())) is not None:
        search.measured(name, rows[name])
        asked.append(name)
    named = runs.with_columns(pl.Series("base", [base_model(i) for i in runs["model_id"]]))
    for (model, task), group in named.group_by("base", "task", maintain_order=True):
        known = group["run_id"].is_in(asked).to_numpy()
        regret = true_regret(group[ENERGY].to_numpy(), group[TIME[form]].to_numpy(), known)
        yield Replayed(
            backbone=backbone,
            model=str(model),
            task=str(task),
            points=group.height,
            measured=int(known.sum()),
            on_frontier=regret.size,
            regret_mean_fraction=float(regret.mean()),
            regret_worst_fraction=float(regret.max()),
        )


def summary(found: Sequence[Replayed]) -> dict[str, float]:
    """Return the share that was measured, and the distribution of the frontiers' regrets."""
    regrets = np.array([one.regret_mean_fraction for one in found])
    points = np.array([one.on_frontier for one in found])
    return {
        "frontiers": len(found),
        "points": sum(one.points for one in found),
        "measured_share": sum(one.measured for one in found) / sum(one.points for one in found),
        "on_frontier_share": float(points.sum() / sum(one.points for one in found)),
        "regret_median": float(np.median(regrets)),
        "regret_p75": float(np.quantile(regrets, 0.75)),
        "regret_p90": float(np.quantile(regrets, 0.9)),
        "regret_mean": float(regrets.mean()),
        "regret_mean_without_worst": float(np.sort(regrets)[:-1].mean()) if len(found) > 1 else float(regrets[0]),
        "regret_worst": float(regrets.max()),
        "share_within_goal": float((regrets <= GOAL_REGRET).mean()),
    }


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store")
    parser.add_argument("--regret", type=float, default=Goal().regret_fraction)
    parser.add_argument("--budget", type=float, default=1.0, help="share of each backbone's grid")
    parser.add_argument("--backbone", action="append", default=[])
    options = parser.parse_args()
    goal = Goal(regret_fraction=options.regret, budget_fraction=options.budget)
    begun_s = time.process_time()
    found = []
    for one in replays(open_store(options.store).frame, goal, options.backbone):
        found.append(one)
        sys.stdout.write(
            f"{one.model:55} {one.task:16} {one.measured:3} of {one.points:3}  regret "
            f"{one.regret_mean_fraction:7.2%}, at worst {one.regret_worst_fraction:8.2%}\n"
        )
        sys.stdout.flush()
    for name, value in summary(found).items():
        sys.stdout.write(f"{name:26} {value:.4g}\n")
    sys.stdout.write(f"{'CPU s':26} {time.process_time() - begun_s:.0f}\n")


if __name__ == "__main__":
    main()
