"""``joulemap publish``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
from cyclopts import Parameter

from joulemap.cli.output import Common, note, print_json
from joulemap.cli.progress import LateProgress
from joulemap.store.data_card import DatasetDescription
from joulemap.store.dataset import publish_dataset
from joulemap.store.selector import SELECTION_COLUMNS, filtered, parse_selector


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What only you know of the dataset."""

    title: str
    """Its title."""
    author: list[str]
    """An author, "Family, Given" or the name of a body; give one for each."""
    license: str
    """Its licence as an SPDX identifier, for example CC-BY-4.0."""
    dataset_version: str = "1.0.0"
    """Its version."""
    about: str | None = None
    """What a reader should know of it."""
    url: str | None = None
    """Where it will be found."""
    doi: str | None = None
    """Its DOI."""


def publish_runs(
    selector: str = "",
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    description: DatasetOptions,
    include_invalid: Annotated[bool, Parameter(negative="")] = False,
    force: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Write runs as a dataset that others can cite, check and extend.

    The folder holds the runs as Parquet, a data card with provenance, meters and validity, checksums, a licence and
    a citation file, and the runs once more in the layout of the ML.ENERGY Benchmark.

    Args:
        selector: Which runs, for example task=gpqa,gpu=B200; all if not given.
        output: The dataset's folder.
        description: What only you know of the dataset.
        include_invalid: Publish invalid runs too, marked as such.
        force: Replace a dataset that lies there.
        common: Store and output.
    """
    options = common or Common()
    told = DatasetDescription(
        title=description.title,
        authors=tuple(description.author),
        licence=description.license,
        version=description.dataset_version,
        released=datetime.now(UTC).date(),
        url=description.url,
        doi=description.doi,
        about=description.about,
    )
    store = options.open()
    store.non_empty_run_ids()
    frame = store.columns(SELECTION_COLUMNS)
    found = filtered(frame if include_invalid else frame.filter(pl.col("valid")), parse_selector(selector))
    with LateProgress() as progress:
        made = publish_dataset(
            store,
            found["run_id"],
            output,
            told,
            force=force,
            progress=lambda done, total: progress.update("writing runs", done, total),
        )
    if options.json:
        print_json(
            {
                "folder": str(made.folder),
                "runs": made.runs,
                "files": made.files,
                "not_in_mlenergy": made.not_in_mlenergy,
            }
        )
    else:
        print(f"Wrote {made.folder}: {made.runs:,} runs in {len(made.files)} files")  # noqa: T201
    for reason, count in made.not_in_mlenergy.items():
        note(f"note: {count:,} runs are not in the ML.ENERGY layout: {reason}")
