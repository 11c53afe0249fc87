"""Scraping an engine in the background; a server that fails to tell leaves holes, never an end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import polars as pl

from joulemap.clock import Clock, SystemClock
from joulemap.errors import ServerError
from joulemap.measure.meters.meter import Reading, Stopwatch
from joulemap.measure.meters.sampler import Sampler, SamplerStatus
from joulemap.measure.telemetry.adapters import detect_engine
from joulemap.measure.telemetry.fetch import fetch_text, server_name
from joulemap.measure.telemetry.sample import COUNTERS, GAUGES, EngineAdapter, TelemetrySample
from joulemap.measure.telemetry.window import Scrape, TelemetryWindow, telemetry_between

TelemetryReading = Reading[TelemetrySample]
TextFetcher = Callable[[], str]


class TelemetrySource:
    """Scrapes one server. A scrape that fails gives a sample of nothing but the reason; it raises never.

    Args:
        url: Where the metrics are, for example ``http://localhost:8000/metrics``.
        timeout_s: Time for one scrape.
        headers: Headers to send; they appear in no error.
        clock: Time for the stamps.
        fetch: Gets the text in another way; tests use it.

    Raises:
        UsageError: It is no URL.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 2.0,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        fetch: TextFetcher | None = None,
    ) -> None:
        self.device = server_name(url)
        self._clock = clock or SystemClock()
        self._fetch = fetch or (lambda: fetch_text(url, timeout_s=timeout_s, headers=headers))
        self._adapter: EngineAdapter | None = None

    def read(self) -> TelemetryReading:
        """Scrape once."""
        watch = Stopwatch(self._clock)
        return watch.stamp((self._sample(),))

    def close(self) -> None:
        """Nothing is held open."""

    def _sample(self) -> TelemetrySample:
        try:
            text = self._fetch()
            if self._adapter is None:
                self._adapter = detect_engine(text)
            sample = self._adapter.sample(text, self.device)
        except ServerError as error:
            return self._nothing(error.message)
        if all(getattr(sample, name) is None for name in (*GAUGES, *COUNTERS)):
            # Another engine may have taken the port, or the text is half: look anew next time.
            self._adapter = None
            return self._nothing(f"the metrics hold none of {sample.engine}'s")
        return sample

    def _nothing(self, reason: str) -> TelemetrySample:
        return TelemetrySample(device=self.device, missing=dict.fromkeys((*GAUGES, *COUNTERS), reason))


class TelemetryRecorder:
    """A sampler of a telemetry source that keeps whole samples, so that histograms can be differenced.

    Args:
        source: What to scrape.
        rate_hz: Scrapes per second; a scrape costs the client 1–10 ms of CPU.
        clock: Time for the schedule.
        keep_s: How far back scrapes are kept at least; all of them by default.
    """

    def __init__(
        self,
        source: TelemetrySource,
        *,
        rate_hz: float = 1.0,
        clock: Clock | None = None,
        keep_s: float | None = None,
    ) -> None:
        self._scrapes: deque[Scrape] = deque()
        self._keep_s = keep_s
        self._sampler = Sampler(
            source, TelemetrySample, rate_hz=rate_hz, clock=clock, on_read=self._keep, keep_s=keep_s
        )

    def __enter__(self) -> TelemetryRecorder:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Scrape once, then go on in the background."""
        self._sampler.start()

    def stop(self) -> None:
        """Scrape a last time and end."""
        self._sampler.stop()

    def read_once(self) -> bool:
        """Scrape now; for tests, and for an extra scrape at a window's edge."""
        return self._sampler.read_once()

    def latest(self) -> TelemetrySample | None:
        """Return the newest sample, for a live view."""
        return self._scrapes[-1][1] if self._scrapes else None

    def latest_scrape(self) -> Scrape | None:
        """Return the newest sample with its monotonic time."""
        return self._scrapes[-1] if self._scrapes else None

    def frame(self) -> pl.DataFrame:
        """Return all scrapes: ``device, t_wall, t_mono_s, engine`` and a column per field."""
        return self._sampler.frame()

    def status(self) -> SamplerStatus:
        """Return how the scraping went."""
        return self._sampler.status()

    def between(self, begin_s: float, end_s: float) -> TelemetryWindow:
        """Return what happened between two monotonic times."""
        return telemetry_between(tuple(self._scrapes), begin_s, end_s)

    def _keep(self, reading: TelemetryReading) -> None:
        self._scrapes.append((reading.mono_s, reading.rows[0]))
        while self._keep_s is not None and self._scrapes[0][0] < reading.mono_s - self._keep_s:
            self._scrapes.popleft()
