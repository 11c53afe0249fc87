"""Distributions of token counts, from the counts themselves."""

from __future__ import annotations

import numpy as np

from joulemap.records import LengthDistribution

BINS = 50
"""As many as the public leaderboard uses, so that both can be laid over each other."""


def distribution_of(lengths_tokens: list[float]) -> LengthDistribution | None:
    """Return the histogram of the lengths; ``None`` if there are none."""
    if not lengths_tokens:
        return None
    values = np.asarray(lengths_tokens, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    # Lengths are whole numbers: a narrower range than one token has no bins to make.
    edges = np.linspace(low, high, BINS + 1) if high - low >= 1 else np.array([low - 0.5, low + 0.5])
    counts, _ = np.histogram(values, bins=edges)
    return LengthDistribution(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))
