"""``joulemap study``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from joulemap.cli.output import Common, note, print_json, print_table
from joulemap.errors import UsageError
from joulemap.study import Claim, reproduce

Format = Literal["svg", "png", "html"]


def reproduce_study(
    *,
    figures: Path | None = None,
    format: Format = "svg",
    common: Common | None = None,
) -> None:
    """Reproduce the study's published claims from the runs of the store.

    Args:
        figures: Draw the study's figures into this folder too.
        format: Format of the figures.
        common: Store and output.
    """
    options = common or Common()
    frame = options.open().non_empty_frame()
    if figures is not None and figures.exists() and not figures.is_dir():
        msg = f"--figures {figures} is a file, not a folder"
        raise UsageError(msg, fix="give a folder; it is created if need be")
    claims = reproduce(frame)
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


def _print_claims(claims: list[Claim]) -> None:
    rows = [
        [claim.id, claim.statement, claim.published, claim.computed or "–", "yes" if claim.match else "no"]
        for claim in claims
    ]
    print_table("", ["id", "claim", "published", "computed", "match"], rows, left=5)
    for claim in claims:
        if not claim.match:
            note(f"{claim.id}: {claim.note}")
    matching = sum(claim.match for claim in claims)
    known = sum(claim.is_known_difference for claim in claims)
    without = sum(claim.computed is None for claim in claims)
    parts = [f"{matching} of {len(claims)} claims match"]
    if known:
        parts.append(f"{known} differ in the released data, as known")
    if others := len(claims) - matching - known - without:
        parts.append(f"{others} differ")
    if without:
        parts.append(f"{without} lack runs")
    note("; ".join(parts))
