"""What was asked of a configuration: the task, its lengths, and for diffusion the shape of the output."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum


class Modality(StrEnum):
    """What goes in beside text, or comes out."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"


class OutputUnit(StrEnum):
    """What one unit of output is; energies "per output" are per this."""

    TOKEN = "token"
    IMAGE = "image"
    VIDEO = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthDistribution:
    """A histogram of lengths: ``len(edges) == len(counts) + 1``, edges strictly rising, counts not negative.

    Raises:
        ValueError: The edges or counts are not those of a histogram.
    """

    edges: tuple[float, ...]
    """Bin edges in tokens."""
    counts: tuple[int, ...]
    """Requests in each bin."""

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1 or not self.counts:
            msg = f"a histogram has one edge more than counts, not {len(self.edges)} and {len(self.counts)}"
            raise ValueError(msg)
        rising = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if not rising or not all(map(math.isfinite, self.edges)):
            msg = "the edges of a histogram must be finite and strictly rising"
            raise ValueError(msg)
        if min(self.counts) < 0:
            msg = f"the counts of a histogram cannot be negative: {min(self.counts)}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work that was asked for; a field that a source does not state is ``None``."""

    task: str | None = None
    """The catalog's task id, for example ``"gpqa"``; the source's own name where the catalog has none."""
    output_unit: OutputUnit = OutputUnit.TOKEN
    input_modality: Modality = Modality.TEXT
    mean_input_tokens: float | None = None
    """Mean prompt length in tokens, text and vision tokens together."""
    mean_output_tokens: float | None = None
    """Mean reply length in tokens."""
    output_lengths: LengthDistribution | None = field(default=None, metadata={"attachment": True})
    request_rate_per_s: float | None = None
    """Offered load in requests per second; ``None`` for a closed loop."""
    max_concurrency: int | None = None
    """Requests that the client kept in flight; ``None`` where it set no limit."""
    inference_steps: int | None = None
    """Denoising steps of a diffusion pipeline."""
    height_px: int | None = None
    width_px: int | None = None
    num_frames: int | None = None
    fps_hz: float | None = None
