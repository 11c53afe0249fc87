"""A plan asked for by a form, as the plan file that means the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pydantic import Field

from joulemap.errors import UsageError
from joulemap.plan.spec import Objective
from joulemap.units import S_PER_MS
from joulemap.web.answers import Fields

MOST_ROWS = 12
MOST_TOML = 16_000
ROWS_SHOWN = 2
"""Empty rows that the form offers beside those filled in."""


class PlanFields(Fields):
    """A plan: the text of a plan file, or the fields of the form."""

    toml: str | None = Field(None, max_length=MOST_TOML, description="A plan file, as for `joulemap plan`.")
    objective: Objective | None = Field(None, description="What counts: value, energy, cost or carbon.")
    confidence: float | None = Field(
        None, gt=0, lt=1, description="Plan with pessimistic powers and throughputs, for example 0.9."
    )
    cap_kw: float | None = Field(None, gt=0, allow_inf_nan=False, description="Facility power of the site.")
    pue: float = Field(1.2, ge=1, le=10, description="Power usage effectiveness of the site.")
    gpu: list[str] = Field([], max_length=MOST_ROWS, description="GPU model of each pool.")
    count: list[str] = Field([], max_length=MOST_ROWS, description="GPUs of each pool, in the same order.")
    task: list[str] = Field([], max_length=MOST_ROWS, description="Task of each demand.")
    requests_per_s: list[str] = Field([], max_length=MOST_ROWS, description="Rate of each demand.")
    model: list[str] = Field([], max_length=MOST_ROWS, description="Model of each demand; empty: any measured.")
    itl_ms: list[str] = Field([], max_length=MOST_ROWS, description="Limit on inter-token latency of each demand.")

    @property
    def is_asked(self) -> bool:
        """Whether a plan is asked for."""
        return self.toml is not None or self.cap_kw is not None

    def text(self) -> str:
        """Return the plan file that is asked for.

        Raises:
            UsageError: A row of the form is half filled in, or holds something that is not a number.
        """
        return self.toml if self.toml is not None else "\n".join(_plan_file(self)) + "\n"


def pools(asked: PlanFields) -> list[tuple[str, str]]:
    """Return the filled-in rows of pools: GPU model and count."""
    return [(gpu, count) for gpu, count in _rows(asked.gpu, asked.count) if gpu and count]


def demands(asked: PlanFields) -> list[tuple[str, str, str, str]]:
    """Return the filled-in rows of demands: task, rate, model, limit in milliseconds."""
    rows = _rows(asked.task, asked.requests_per_s, asked.model, asked.itl_ms)
    return [(task, rate, model, itl) for task, rate, model, itl in rows if task and rate]


def _plan_file(asked: PlanFields) -> Iterator[str]:
    own_pools, own_demands = pools(asked), demands(asked)
    if not own_pools:
        msg = "no pool of GPUs is filled in"
        raise UsageError(msg, fix="choose a GPU model and how many there are")
    if not own_demands:
        msg = "no demand is filled in"
        raise UsageError(msg, fix="choose a task and how many requests arrive each second")
    yield "[[sites]]"
    yield 'name = "site"'
    yield f"cap_kw = {asked.cap_kw}"
    yield f"pue = {asked.pue}"
    tables = [f"{{ gpu = {_text(gpu)}, count = {int(_number(count, 'count'))} }}" for gpu, count in own_pools]
    yield f"pools = [{', '.join(tables)}]"
    for number, (task, rate, model, itl) in enumerate(own_demands, start=1):
        yield ""
        yield "[[demands]]"
        yield f"name = {_text(f'{task} {number}')}"
        yield f"task = {_text(task)}"
        yield f"requests_per_s = {_number(rate, 'requests_per_s')}"
        if model:
            yield f"models = [{_text(model)}]"
        if itl:
            yield f"slo = {{ itl_median_s = {_number(itl, 'itl_ms') * S_PER_MS} }}"


def _rows(*columns: Sequence[str]) -> list[tuple[str, ...]]:
    longest = max(map(len, columns))
    padded = [[*column, *[""] * (longest - len(column))] for column in columns]
    return [tuple(cell.strip() for cell in row) for row in zip(*padded, strict=True)]


def _text(text: str) -> str:
    # TOML's basic strings escape as JSON's do.
    return json.dumps(text, ensure_ascii=False)


def _number(text: str, field: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        msg = f"{field} is {text!r}, not a positive number"
        raise UsageError(msg, fix=f"{field}=40")
    return value
