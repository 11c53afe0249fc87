"""Whether a run's host was as narrow as the study's hosts of the same system: told by the run, not by the model.

Some of the study's systems gave their jobs few host cores, and the model knows those systems by GPU model and
count. Another system of the same GPUs may have a better host; then its steps are as short as without that limit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from joulemap.catalog import Catalog
from joulemap.diagnose.modelled import AMPLE_HOST, modelled_forms, seconds_per_output_step
from joulemap.predict.calibration import Calibration
from joulemap.predict.forms import Models
from joulemap.predict.language_rows import LanguageRows


def with_hosts_as_seen(
    frame: pl.DataFrame, *, calibration: Calibration, catalog: Catalog, models: Models | None = None
) -> pl.DataFrame:
    """Return the run table with a column that is true where a run was too fast for a host with few cores.

    Args:
        frame: The runs.
        calibration: The calibrated model.
        catalog: Facts.
        models: Architectures beside the catalog's.
    """
    ample = np.zeros(frame.height, dtype=np.bool_)
    for form in modelled_forms(frame, calibration=calibration, catalog=catalog, models=models):
        rows = form.rows.rows
        if not isinstance(rows, LanguageRows) or not rows.narrow_host.any():
            continue
        own = frame[form.index.tolist()]
        seen_s = (own["batch_size"] / own["output_throughput_per_s"]).cast(pl.Float64).fill_null(np.nan).to_numpy()
        wide = replace(form.rows, rows=replace(rows, narrow_host=np.zeros(len(rows))))
        with_few = seconds_per_output_step(form.terms)
        with_many = seconds_per_output_step(wide.terms(form.calibration.vector))
        nearer: NDArray[np.bool_] = np.abs(np.log(seen_s / with_many)) < np.abs(np.log(seen_s / with_few))
        ample[form.index] = nearer & (rows.narrow_host > 0)
    return frame.with_columns(pl.Series(AMPLE_HOST, ample))
