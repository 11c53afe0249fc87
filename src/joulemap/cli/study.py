"""``joulemap study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from joulemap.cli.output import Common, note, print_json, print_table
from joulemap.errors import ImportFileError, UsageError
from joulemap.store.schema import runs_to_frame, utc_now
from joulemap.study import Claim, reproduce

if TYPE_CHECKING:
    import polars as pl

Format = Literal["svg", "png", "html"]


def reproduce_study(
    dataset: str | None = None,
    /,
    *,
    every_source: Annotated[bool, Parameter(negative="")] = False,
    figures: Path | None = None,
    format: Format = "svg",
    common: Common | None = None,
) -> None:
    """Reproduce the study's published claims from the runs of the store, or of any dataset.

    A claim whose runs are missing cannot be tested, and says which they are.

    Args:
        dataset: A dataset that joulemap publish wrote, or results of any format that joulemap import reads; by
            default the runs of the store.
        every_source: Take runs of every source, not only the study's own where there are some: for data that
            extends the study.
        figures: Draw the study's figures into this folder too.
        format: Format of the figures.
        common: Store and output.
    """
    options = common or Common()
    frame = options.open().non_empty_frame() if dataset is None else _read(dataset)
    if figures is not None and figures.exists() and not figures.is_dir():
        msg = f"--figures {figures} is a file, not a folder"
        raise UsageError(msg, fix="give a folder; it is created if need be")
    claims = reproduce(frame, every_source=every_source)
    if options.json:
        print_json({"claims": [claim.to_json() for claim in claims]})
    else:
        _print_claims(claims)
    if figures is not None:
        from joulemap.study.figures import save_figures

        saved = save_figures(frame, figures, format)
        for path in saved.written:
            note(f"Wrote {path}")
        for name, reason in saved.left_out.items():
            note(f"{name}: not drawn, {reason}")


def _read(dataset: str) -> pl.DataFrame:
    """Return the runs of a dataset; bad files and rows are named and left out."""
    from joulemap.store.importers import read_path

    found = read_path(dataset)
    for problem in found.problems:
        note(f"error: {problem}")
    if not found.runs:
        raise ImportFileError(dataset, None, "holds no run that can be used")
    return runs_to_frame(list({run.run_id: run for run in found.runs}.values()), stored_at=utc_now())


def _print_claims(claims: list[Claim]) -> None:
    rows = [
        [
            claim.id,
            claim.statement,
            claim.published,
            claim.computed or "–",
            "yes" if claim.match else "no" if claim.computed else "–",
        ]
        for claim in claims
    ]
    print_table("", ["id", "claim", "published", "computed", "match"], rows, left=5)
    for claim in claims:
        if not claim.match:
            note(f"{claim.id}: {'' if claim.computed else 'cannot be tested: '}{claim.note}")
    matching = sum(claim.match for claim in claims)
    known = sum(claim.is_known_difference for claim in claims)
    without = sum(claim.computed is None for claim in claims)
    parts = [f"{matching} of {len(claims)} claims match"]
    if known:
        parts.append(f"{known} differ in the released data, as known")
    if others := len(claims) - matching - known - without:
        parts.append(f"{others} differ")
    if without:
        parts.append(f"{without} cannot be tested on these runs")
    note("; ".join(parts))
