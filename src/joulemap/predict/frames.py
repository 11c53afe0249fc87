"""Columns of a run table as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from joulemap.catalog import GpuModel
from joulemap.physics.arrays import Floats

Index = np.ndarray[tuple[int], np.dtype[np.intp]]


def gpu_figures(gpus: Sequence[GpuModel]) -> dict[str, Floats]:
    """Return datasheet figures over GPU models, by name."""
    peaks = [g.peak_flops_per_s for g in gpus]
    sixteen = [p.get("bf16") or p["fp16"] for p in peaks]
    figures = {
        "bandwidth": [g.memory_bandwidth_bytes_per_s for g in gpus],
        "peak": sixteen,
        "peak_fp8": [p.get("fp8", usual) for p, usual in zip(peaks, sixteen, strict=True)],
        "tdp_w": [g.tdp_w for g in gpus],
        # Links are given both directions together; a collective sends at half of that.
        "link": [(g.nvlink_bandwidth_bytes_per_s or g.pcie_bandwidth_bytes_per_s) / 2.0 for g in gpus],
        "memory_bytes": [g.memory_bytes for g in gpus],
    }
    return {name: np.array(values, dtype=np.float64) for name, values in figures.items()}


def coded(series: pl.Series) -> tuple[list[str], Index]:
    """Return the distinct texts of a column, and each row's position among them."""
    distinct = series.unique(maintain_order=True)
    positions = pl.int_range(distinct.len(), eager=True)
    codes = series.replace_strict(distinct, positions, return_dtype=pl.Int64)
    return distinct.to_list(), codes.to_numpy().astype(np.intp)


def column_of(frame: pl.DataFrame, name: str, kind: type[pl.DataType]) -> pl.Series:
    """Return a column as the given type; all null where the table has none."""
    if name in frame.columns:
        return frame[name].cast(kind)
    return pl.Series(name, [None], dtype=kind).new_from_index(0, frame.height)


def floats_of(frame: pl.DataFrame, name: str, default: float) -> Floats:
    """Return a column as floats, with a default for nulls and for a column that is not there."""
    return np.asarray(column_of(frame, name, pl.Float64).fill_null(default).to_numpy(), dtype=np.float64)


def filled(values: Floats, default: Floats) -> Floats:
    """Return values with a default where they are not a number."""
    return np.where(np.isnan(values), default, values)
