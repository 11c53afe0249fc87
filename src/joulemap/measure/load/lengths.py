"""How long prompts and replies are, in tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Protocol

from joulemap.errors import UsageError
from joulemap.records.workload import LengthDistribution


class Lengths(Protocol):
    """A distribution of lengths."""

    def draw(self, number: int, random: Random) -> int:
        """Return the length for request ``number``, in tokens, at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class FixedLength:
    """Every request has the same length."""

    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1:
            msg = f"a length is at least 1 token, not {self.tokens}"
            raise UsageError(msg)

    def draw(self, number: int, random: Random) -> int:  # noqa: ARG002
        """Return the length."""
        return self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormalLength:
    """Log-normal lengths, the usual shape of prompts and replies."""

    mean_tokens: float
    variation: float = 0.5
    """Standard deviation ÷ mean."""
    max_tokens: int = 1_000_000

    def __post_init__(self) -> None:
        if not self.mean_tokens >= 1 or self.variation < 0 or not math.isfinite(self.mean_tokens):
            msg = f"no lengths have mean {self.mean_tokens!r} and variation {self.variation!r}"
            raise UsageError(msg)

    def draw(self, number: int, random: Random) -> int:  # noqa: ARG002
        """Draw a length."""
        sigma2 = math.log1p(self.variation**2)
        drawn = random.lognormvariate(math.log(self.mean_tokens) - sigma2 / 2, math.sqrt(sigma2))
        return max(1, min(round(drawn), self.max_tokens))


class HistogramLength:
    """Lengths of a histogram, uniform inside each bin.

    Args:
        histogram: For example a task's own.

    Raises:
        UsageError: The histogram holds no request.
    """

    __slots__ = ("_cumulated", "_histogram")

    def __init__(self, histogram: LengthDistribution) -> None:
        self._histogram = histogram
        self._cumulated = list(accumulate(histogram.counts))
        if not self._cumulated[-1]:
            msg = "the histogram of lengths holds no request"
            raise UsageError(msg)

    def draw(self, number: int, random: Random) -> int:  # noqa: ARG002
        """Draw a length."""
        bin_ = bisect_right(self._cumulated, random.randrange(self._cumulated[-1]))
        low, high = self._histogram.edges[bin_], self._histogram.edges[bin_ + 1]
        return max(1, round(random.uniform(low, high)))


@dataclass(frozen=True, slots=True)
class ListedLengths:
    """The lengths of a recorded trace, in order, over and over."""

    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.tokens:
            msg = "a list of lengths needs at least one"
            raise UsageError(msg)

    def draw(self, number: int, random: Random) -> int:  # noqa: ARG002
        """Return the length that the trace has for this request."""
        return max(1, self.tokens[number % len(self.tokens)])
