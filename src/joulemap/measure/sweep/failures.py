"""What a store knows of a sweep's configurations: those that were measured, and those that cannot be.

A measured configuration is known by its runs, whose provenance names it. One that gave no run leaves a file of one
row beside the runs, so that the next invocation knows why, wherever the store lies and whichever machine it is.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import polars as pl

from joulemap.errors import StoreError
from joulemap.measure.sweep.job import End
from joulemap.store.run_store import RunStore
from joulemap.store.schema import utc_now

SWEEPS_FOLDER = "sweeps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a configuration gave no run."""

    configuration_id: str
    end: str
    reason: str
    attempts: int


def measured_runs(store: RunStore, configuration_ids: Iterable[str]) -> dict[str, list[dict[str, object]]]:
    """Return the rows of the run table that measured configurations, by configuration, oldest first."""
    wanted = store.frame.filter(pl.col("configuration_id").is_in(list(configuration_ids)))
    found: dict[str, list[dict[str, object]]] = {}
    for row in wanted.iter_rows(named=True):
        found.setdefault(row["configuration_id"], []).append(row)
    return found


def note_failure(store: RunStore, sweep: str, failure: Failure) -> None:
    """Write down why a configuration gave no run.

    Raises:
        StoreError: The store cannot be written.
    """
    content = io.BytesIO()
    row = {**asdict(failure), "ended_at": utc_now()}
    pl.DataFrame([row]).write_parquet(content)
    stamp = utc_now().strftime("%Y%m%dT%H%M%S%f")
    try:
        store.place.write(f"{_folder(sweep)}/{stamp}-{failure.configuration_id}.parquet", content.getvalue())
    except OSError as error:
        msg = f"the store {store.address} cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error


def known_failures(store: RunStore, sweep: str) -> Mapping[str, Failure]:
    """Return the latest failure of each configuration.

    Raises:
        StoreError: The store cannot be read.
    """
    try:
        contents = store.place.read(list(store.place.sizes_bytes(_folder(sweep))))
    except OSError as error:
        msg = f"the store {store.address} cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error
    found: dict[str, Failure] = {}
    # Names begin with the time, and are sorted: what comes later counts.
    for content in contents:
        if isinstance(content, OSError):
            continue
        try:
            (row,) = pl.read_parquet(io.BytesIO(content)).drop("ended_at").rows(named=True)
        except (pl.exceptions.PolarsError, ValueError):
            continue  # damaged: the configuration is tried once more
        found[row["configuration_id"]] = Failure(**row)
    return found


def final(failure: Failure) -> bool:
    """Say whether another attempt would end the same way."""
    return not End(failure.end).may_pass


def _folder(sweep: str) -> str:
    return f"{SWEEPS_FOLDER}/{sweep}"
