"""``joulemap calibrate``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.errors import UsageError
from joulemap.predict.calibration import Calibration, calibrate
from joulemap.predict.forms import FormName, layout
from joulemap.store.selector import filtered, parse_selector


def calibrate_on_store(
    selector: str = "",
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Fit the model's coefficients on the store's runs and write them to a file for joulemap predict.

    Args:
        selector: Which runs, for example gpu=H100; all if not given.
        output: File to write; nothing is written if not given.
        force: Overwrite the file.
        common: Store and output.
    """
    options = common or Common()
    if output is not None and output.exists() and not force:
        msg = f"{output} exists"
        raise UsageError(msg, fix="add --force to overwrite it, or name another file with -o")
    frame = filtered(options.open().non_empty_frame(), parse_selector(selector))
    note("fitting, and holding each backbone out in turn: about a minute for the study's runs")
    made = calibrate(frame, source=f"{frame.height} runs of a store", date=datetime.now(UTC).date().isoformat())
    if output is not None:
        made.save(output)
        note(f"Wrote {output}")
    if options.json:
        print_json(_payload(made))
        return
    for form, fitted in made.forms.items():
        rows = [
            [name, figure(value), f"{figure(low)} – {figure(high)}"] for name, value, low, high in _rows(made, form)
        ]
        print_table(f"{form}: {fitted.rows} runs", ["coefficient", "value", "90 % interval"], rows)
    for text in made.notes:
        note(f"note: {text}")


def _payload(made: Calibration) -> dict[str, object]:
    return {
        "date": made.date,
        "source": made.source,
        "digest": made.digest,
        "forms": {
            form: {"rows": f.rows, "coefficients": _as_objects(_rows(made, form))} for form, f in made.forms.items()
        },
        "notes": list(made.notes),
    }


Row = tuple[str, float, float, float]


def _rows(made: Calibration, form: FormName) -> list[Row]:
    """Return name, value, and low and high ends of the 90 % interval of each coefficient."""
    fitted = made.forms[form]
    names = layout(fitted.form, fitted.gpus).names()
    values, spread = np.exp(fitted.vector), np.exp(1.645 * fitted.deviation)
    return [(n, float(v), float(v / s), float(v * s)) for n, v, s in zip(names, values, spread, strict=True)]


def _as_objects(rows: list[Row]) -> list[dict[str, object]]:
    return [dict(zip(("name", "value", "low", "high"), row, strict=True)) for row in rows]
