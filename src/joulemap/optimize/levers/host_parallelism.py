"""Host parallelism: more processes to prepare pictures and video, so that the GPU does not wait for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from joulemap.diagnose.diagnosis import Bound, Change
from joulemap.diagnose.findings.wording import relief
from joulemap.diagnose.modelled import energy_per_output, modelled_forms

NAME = "host_parallelism"
COSTS = "CPU cores and memory; the host's own power, which GPU energy does not hold, rises"
EVIDENCE = "the calibrated model's time of the host, halved"


def applies(row: Mapping[str, Any]) -> bool:
    """Say whether requests carry pictures or video that the host prepares."""
    return row["output_unit"] == "token" and row["input_modality"] in ("image", "video")


def options(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the multimodal rows as they are: no setting of the run table tells the host's parallelism."""
    multimodal = pl.col("input_modality").is_in(["image", "video"])
    return frame.filter((pl.col("output_unit") == "token") & multimodal)


def change(frame: pl.DataFrame) -> list[Change | None]:
    """Return what twice the host's speed does to each row of :func:`options`."""
    changes: list[Change | None] = [None] * frame.height
    for form in modelled_forms(frame):
        before, after = form.terms, form.relieved(Bound.HOST)
        gain = energy_per_output(before) / energy_per_output(after)
        faster = after.output_throughput_per_s / before.output_throughput_per_s
        for position, own, rate in zip(form.index, gain, faster, strict=True):
            told = relief(float(np.maximum(own, 1.0)))
            changes[int(position)] = Change(
                energy_ratio=told.energy_ratio,
                energy_ratio_min=told.energy_ratio_min,
                energy_ratio_max=told.energy_ratio_max,
                throughput_ratio=float(rate),
            )
    return changes
