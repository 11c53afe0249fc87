"""A report on whatever is named: runs, a frontier, a recommendation, a plan, or the study."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from joulemap.errors import UsageError
from joulemap.report.document import Document
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.selector import find_run, parse_selector, select

if TYPE_CHECKING:
    from joulemap.optimize.constraints import Constraints
    from joulemap.optimize.scope import Scope

KINDS = ("frontier", "recommendation", "plan", "simulation", "study")
"""Words that may come first; without one, what is named tells the kind."""
_WAYS = (
    "joulemap report RUN; RUN RUN; SELECTOR of several runs; PLAN.toml; study; frontier SELECTOR; "
    "recommendation SELECTOR; simulation PLAN.toml"
)


def report(
    *what: str,
    store: RunStore | None = None,
    constraints: Constraints | None = None,
    current: str | None = None,
) -> Document:
    """Return the report on what is named.

    Args:
        what: One run (an id or a selector): its diagnosis. Two: why the first costs more than the second. More, or
            a selector that matches several: their batch curves. A plan file (``.toml``): the planned fleet. A first
            word of ``KINDS`` says what else is wanted of the selector or plan file after it.
        store: The run store; the default one if ``None``.
        constraints: Limits of a recommendation.
        current: What a recommendation compares with: a run id, or a selector.

    Raises:
        UsageError: What is named cannot be reported on.
        SelectorError: A selector matches no run.
        EmptyStoreError: There are no runs.
    """
    runs = store if store is not None else open_store()
    if not what:
        msg = "nothing is named to report on"
        raise UsageError(msg, fix=_WAYS)
    head, *rest = what
    if head == "recommendation":
        return _recommendation(_only(rest, head), constraints, current, runs)
    if constraints is not None or current is not None:
        msg = "limits, and what is served now, belong to a recommendation"
        raise UsageError(msg, fix="joulemap report recommendation model=…,task=… --itl 50ms")
    if head == "study":
        if rest:
            msg = f"a report on the study needs nothing after it, not {rest[0]!r}"
            raise UsageError(msg, fix="joulemap report study")
        return _study(runs)
    if head == "frontier":
        return _frontier(_only(rest, head), runs)
    if head in ("plan", "simulation"):
        return _plan(_only(rest, head), runs, simulate=head == "simulation")
    if head.endswith(".toml") and not rest and not _is_sweep(Path(head)):
        return _plan(head, runs, simulate=False)
    return _runs(what, runs)


def scope_named(selector: str) -> Scope:
    """Return the scope that a selector of model and task, and perhaps of GPUs and precision, names.

    Raises:
        UsageError: It names no model or no task, or what a scope cannot be narrowed by.
    """
    from joulemap.optimize.scope import Scope

    values = dict(parse_selector(selector).values)
    model, task = values.pop("model", None), values.pop("task", None)
    gpu, gpus, precision = (values.pop(name, None) for name in ("gpu", "gpus", "precision"))
    if model is None or task is None or values:
        msg = f"{selector!r} does not name a model and a task, with gpu, gpus and precision at most"
        raise UsageError(msg, fix="model=Qwen/Qwen3-32B,task=gpqa")
    return Scope(
        model=model,
        task=task,
        gpu_models=() if gpu is None else (gpu,),
        gpu_counts=() if gpus is None else (int(gpus),),
        precisions=() if precision is None else (precision,),
    )


def _only(rest: list[str], kind: str) -> str:
    """Return the one thing that is named after a kind."""
    if len(rest) != 1:
        msg = f"a report on a {kind} needs one thing after it, not {len(rest)}"
        raise UsageError(msg, fix=_WAYS)
    return rest[0]


def _runs(what: tuple[str, ...], store: RunStore) -> Document:
    found = [_named(reference, store) for reference in what]
    if len(what) == 2 and all(len(ids) == 1 for ids in found):
        from joulemap.report.documents.explanation import explanation_document
        from joulemap.report.payloads.explanation import explanation_payload

        return explanation_document(explanation_payload(found[0][0], found[1][0], store=store))
    ids = list(dict.fromkeys(run_id for several in found for run_id in several))
    if len(ids) == 1:
        from joulemap.report.documents.run import run_document
        from joulemap.report.payloads.run import run_payload

        return run_document(run_payload(ids[0], store=store))
    from joulemap.report.documents.sweep import sweep_document
    from joulemap.report.payloads.sweep import sweep_payload

    frame = store.frame.filter(pl.col("run_id").is_in(ids))
    return sweep_document(sweep_payload(frame, store=store))


def _named(reference: str, store: RunStore) -> list[str]:
    """Return the ids of the runs that an id or a selector names."""
    frame = store.non_empty_frame()
    if "=" not in reference:
        if Path(reference).is_dir() or Path(reference).suffix == ".toml":
            msg = f"{reference} names no runs: reports are made of the store's, and those of a sweep lie there too"
            raise UsageError(
                msg, fix="joulemap report SELECTOR, for example model=…,task=…; 'joulemap runs' lists them"
            )
        return [find_run(store, reference)["run_id"]]
    return list(select(frame, reference)["run_id"])


def _frontier(selector: str, store: RunStore) -> Document:
    from joulemap.optimize.tradeoff import frontier
    from joulemap.report.documents.frontier import frontier_document

    return frontier_document(frontier(scope_named(selector), store=store))


def _recommendation(
    selector: str, constraints: Constraints | None, current: str | None, store: RunStore
) -> Document:
    from joulemap.report.documents.recommendation import recommendation_document
    from joulemap.report.payloads.recommendation import recommendation_payload

    scope = scope_named(selector)
    return recommendation_document(recommendation_payload(scope, constraints, current=current, store=store))


def _plan(file: str, store: RunStore, *, simulate: bool) -> Document:
    from joulemap.report.documents.plan import plan_document
    from joulemap.report.payloads.plan import plan_payload

    return plan_document(plan_payload(Path(file), store=store, simulate=simulate))


def _is_sweep(file: Path) -> bool:
    try:
        return "sweep" in tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # reading it as a plan file says what is wrong


def _study(store: RunStore) -> Document:
    from joulemap.report.documents.study import study_document
    from joulemap.report.payloads.study import study_payload
    from joulemap.report.renderers.extra import require_plots

    require_plots()
    return study_document(study_payload(store=store))
