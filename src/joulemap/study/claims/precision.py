"""Claims about FP8 against BF16 weights."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from joulemap.study.claim import ClaimDefinition, Outcome, signed_percent
from joulemap.study.comparisons import ATTENTION_DATA_PARALLEL_MODEL, is_data_parallel_case, precision_pairs
from joulemap.study.runs import MissingRunsError, StudyRuns


def _within(low: int, high: int) -> Callable[[StudyRuns], Outcome]:
    def compute(runs: StudyRuns) -> Outcome:
        batch = pl.col("batch_ceiling").is_between(low, high)
        pairs = precision_pairs(runs).filter(batch & ~is_data_parallel_case())
        if pairs.is_empty():
            msg = f"there is no FP8 and BF16 pair at batch {low} to {high}"
            raise MissingRunsError(msg)
        values = {
            f"{quantity}_{name}": value
            for quantity in ("energy", "itl")
            for name, value in _summary(pairs[f"{quantity}_change"]).items()
        }
        return Outcome(
            computed="; ".join(
                f"{label} {values[f'{key}_wins']}/{pairs.height}, {_span(values, key)}, "
                f"{signed_percent(values[f'{key}_median'])}%"
                for label, key in (("energy: wins", "energy"), ("ITL: wins", "itl"))
            ),
            values=values,
            note=f"{pairs.height} pairs: wins, range, median change from BF16 to FP8",
        )

    return compute


def _summary(changes: pl.Series) -> dict[str, float]:
    of = changes.to_frame("x").select(
        wins=(pl.col("x") < 0).sum(),
        lowest=pl.col("x").min(),
        highest=pl.col("x").max(),
        median=pl.col("x").median(),
    )
    return of.row(0, named=True)


def _span(values: dict[str, float], key: str) -> str:
    return f"{signed_percent(values[f'{key}_lowest'])}…{signed_percent(values[f'{key}_highest'])}%"


def _data_parallel(runs: StudyRuns) -> Outcome:
    pairs = precision_pairs(runs).filter(is_data_parallel_case())
    if pairs.is_empty():
        msg = f"there is no FP8 and BF16 pair of {ATTENTION_DATA_PARALLEL_MODEL}"
        raise MissingRunsError(msg)
    if pairs["time_change"].null_count():
        msg = f"runs of {ATTENTION_DATA_PARALLEL_MODEL} do not state their batch or throughput"
        raise MissingRunsError(msg)
    more = pairs.filter((pl.col("energy_change") > 0) & (pl.col("time_change") > 0)).height
    slower = pairs.filter(pl.col("itl_change") > 0).height
    energy, time = _summary(pairs["energy_change"]), _summary(pairs["time_change"])
    return Outcome(
        computed="yes" if more == pairs.height else f"at {more} of {pairs.height} batches",
        values={"pairs": pairs.height, "more": more},
        note=(
            f"{pairs.height} shared batches: energy {_change(energy)}%, time per token {_change(time)}%; "
            f"the median ITL, blind to stalls in the tail, rises at {slower}"
        ),
    )


def _change(summary: dict[str, float]) -> str:
    return f"{signed_percent(summary['lowest'])}…{signed_percent(summary['highest'])}"


CLAIMS = (
    ClaimDefinition(
        id="fp8.8-16",
        statement="FP8 against BF16 at batch 16 (changes of energy per token and median ITL)",
        published="energy: wins 0/7, +13…+56%, +30%; ITL: wins 1/7, −5…+26%, +7%",
        compute=_within(16, 16),
    ),
    ClaimDefinition(
        id="fp8.17-64",
        statement="FP8 against BF16 at batch 17–64",
        published="energy: wins 6/13, −12…+32%, +1%; ITL: wins 11/13, −23…+12%, −12%",
        compute=_within(17, 64),
    ),
    ClaimDefinition(
        id="fp8.65-256",
        statement="FP8 against BF16 at batch 65–256",
        published="energy: wins 11/12, −29…0%, −11%; ITL: wins 11/12, −18…+3%, −11%",
        compute=_within(65, 256),
        released="energy: wins 11/12, −29…0%, −11%; ITL: wins 11/12, −18…+3%, −12%",
        why="the data released on 2026-02-16, after the paper, gives a median ITL change of −11.7%",
    ),
    ClaimDefinition(
        id="fp8.coder480b",
        statement="Qwen 3 Coder 480B A35B: FP8 (attention data-parallel) uses more time and energy at every batch",
        published="yes",
        compute=_data_parallel,
    ),
)
