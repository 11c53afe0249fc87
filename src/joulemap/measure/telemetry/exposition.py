"""A metrics text, read by Prometheus' own parser, and numbers picked from it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from joulemap.errors import ServerError

HISTOGRAM_PARTS = re.compile(r"_(bucket|sum|count)$")
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One value with its labels."""

    labels: Mapping[str, str]
    value: float


Exposition = Mapping[str, list[Series]]
"""All series by metric name; values that are not finite are left out."""


def parse_exposition(text: str, wanted: frozenset[str]) -> Exposition:
    """Return the series of the wanted metrics; of a histogram, its buckets, sum and count too.

    Lines of other metrics are dropped unread: engines print hundreds, and scraping must cost little.

    Raises:
        ServerError: A wanted line is not in the exposition format.
    """
    lines = [line for line in text.splitlines() if _is_wanted(line, wanted)]
    found: dict[str, list[Series]] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    series = Series(labels=sample.labels, value=float(sample.value))
                    found.setdefault(sample.name, []).append(series)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        msg = f"the metrics cannot be parsed: {str(error)[:200]}"
        raise ServerError(msg) from error
    return found


def _is_wanted(line: str, wanted: frozenset[str]) -> bool:
    match = NAME.match(line)
    if match is None:
        return False
    name = match.group()
    return name in wanted or HISTOGRAM_PARTS.sub("", name) in wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """How to get one number out of an exposition: which names, which labels, and what to do with several series."""

    names: tuple[str, ...]
    """Names of the metric, newest first; the first that is there counts."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Labels that a series must have, with the value as a regular expression."""
    per: tuple[str, ...] | None = None
    """Within series that agree in these labels the largest counts: engines repeat a value in every process, and
    processes that do not schedule write zeros. ``None``: every series counts."""
    mean: bool = False
    """Across the groups take the mean (shares), not the sum (counts)."""

    def __call__(self, exposition: Exposition) -> float | None:
        """Return the number, or ``None`` if no series fits."""
        for name in self.names:
            fitting = [s for s in exposition.get(name, ()) if self._fits(s.labels)]
            if fitting:
                values = self._grouped(fitting)
                return math.fsum(values) / (len(values) if self.mean else 1)
        return None

    def _fits(self, labels: Mapping[str, str]) -> bool:
        return all(re.fullmatch(pattern, labels.get(name, "")) for name, pattern in self.where.items())

    def _grouped(self, series: Iterable[Series]) -> list[float]:
        if self.per is None:
            return [s.value for s in series]
        largest: dict[tuple[str, ...], float] = {}
        for s in series:
            key = tuple(s.labels.get(name, "") for name in self.per)
            largest[key] = max(largest.get(key, -math.inf), s.value)
        return list(largest.values())


Picker = Callable[[Exposition], "float | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A cumulative Prometheus histogram, all its series added up."""

    edges: tuple[float, ...]
    """Upper edges of the buckets, the last infinite, in the unit that the histogram's name tells."""
    counts: tuple[int, ...]
    """Observations at or below each edge."""
    total: float
    """Sum of all observations, in the same unit."""

    @property
    def count(self) -> int:
        """Number of observations."""
        return self.counts[-1]

    @property
    def mean(self) -> float | None:
        """Mean of the observations; ``None`` without any."""
        return self.total / self.count if self.count > 0 else None

    def quantile(self, share: float) -> float | None:
        """Return a quantile, linear within its bucket; ``None`` if there is none or beyond the last finite edge."""
        if self.count <= 0:
            return None
        rank = share * self.count
        below_edge, below_count = 0.0, 0
        for edge, count in zip(self.edges, self.counts, strict=True):
            if count >= rank and count > below_count:
                if math.isinf(edge):
                    return None
                return below_edge + (edge - below_edge) * (rank - below_count) / (count - below_count)
            below_edge, below_count = edge, count
        return None

    def since(self, before: Histogram) -> Histogram | None:
        """Return what was observed after ``before``; ``None`` if this is not its continuation."""
        if self.edges != before.edges or any(a < b for a, b in zip(self.counts, before.counts, strict=True)):
            return None
        return Histogram(
            edges=self.edges,
            counts=tuple(a - b for a, b in zip(self.counts, before.counts, strict=True)),
            total=self.total - before.total,
        )


def pick_histogram(exposition: Exposition, names: Iterable[str]) -> Histogram | None:
    """Return the first histogram of the names that is there, added up over its labels."""
    for name in names:
        by_edge: dict[float, float] = {}
        for series in exposition.get(f"{name}_bucket", ()):
            try:
                edge = float(series.labels.get("le", ""))
            except ValueError:
                continue
            by_edge[edge] = by_edge.get(edge, 0.0) + series.value
        if math.inf in by_edge:
            edges = tuple(sorted(by_edge))
            total = math.fsum(s.value for s in exposition.get(f"{name}_sum", ()))
            return Histogram(edges=edges, counts=tuple(round(by_edge[e]) for e in edges), total=total)
    return None
