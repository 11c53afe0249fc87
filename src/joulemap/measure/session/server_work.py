"""A server under load, as work: the load client runs in its own processes, and its word is kept to the end."""

from __future__ import annotations

import time
from collections.abc import Mapping

from joulemap.errors import JoulemapError, MeasurementError, ServerError
from joulemap.measure.engines.cores import pin
from joulemap.measure.load.handle import LoadHandle, start_load
from joulemap.measure.load.plan import LoadPlan
from joulemap.measure.load.result import LoadResult
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.load.window import LoadWindow, Percentiles, evaluate
from joulemap.measure.session.progress_log import ProgressLog
from joulemap.measure.session.work import Progress, Series, WorkDone

HUNG_S = 60.0
"""Time without a single byte, with requests in flight and content seen before, after which a server has hung."""
DEAD_S = 2.0
"""Time without a single byte, with requests failing, after which a server that answered before has died; few
streams that back off would take a minute to reach the client's own limit of failures."""
DEAD_FAILURES = 4
"""Failures within that time, at the least."""
TOLERATED_FAILURES = 0.01
"""Share of failed requests above which a run is invalid: its load was not the one that was asked for."""
RATIO_NEEDS = 2.0
"""Times that the batch must have turned over before tokens per chunk can be told while the load runs."""


class ServerWork:
    """A load on a server; a :class:`~joulemap.measure.session.work.Work`.

    Args:
        plan: What to ask.
        target: Whom.
        workers: Processes of the load client; by default as many as the plan needs.
        hung_s: Silence after which the server counts as hung.
        cores: Where the client runs; by default anywhere.
    """

    mixes = True

    def __init__(
        self,
        plan: LoadPlan,
        target: Target,
        *,
        workers: int | None = None,
        hung_s: float = HUNG_S,
        cores: tuple[int, ...] = (),
    ) -> None:
        self._plan = plan
        self._target = target
        self._workers = workers
        self._hung_s = hung_s
        self._cores = cores
        self._handle: LoadHandle | None = None
        self._result: LoadResult | None = None
        self._lost: JoulemapError | None = None
        self._log = ProgressLog()
        self._last_sign = (0.0, 0)
        self._counted_from: tuple[int, int, int] | None = None
        goal = plan.in_flight_target
        self.target_in_flight: float | None = None if goal is None else float(goal)

    def start(self) -> None:
        """Start the load.

        Raises:
            JoulemapError: The plan cannot be carried out.
        """
        self._handle = start_load(self._plan, self._target, workers=self._workers)
        pin(self._handle.pids, self._cores)

    def progress(self) -> Progress:
        """Return everything that is known so far; every call adds the newest state."""
        if self._handle is not None and self._result is None:
            state = self._handle.snapshot()
            last_s = self._log.last_time_s()
            if state.started and (last_s is None or state.time_s > last_s):
                made = state.completed if self._draws else state.content_chunks * self._tokens_per_chunk()
                # The estimate of tokens per chunk may be refined: what was counted never shrinks by that.
                before = self._log.read().outputs
                made = max(made, float(before[-1]) if before.size else 0.0)
                self._log.add(state.time_s, state.in_flight, made, state.completed, state.failed)
        return self._log.read()

    @property
    def _draws(self) -> bool:
        return self._target.endpoint is Endpoint.IMAGES

    def _tokens_per_chunk(self) -> float:
        """Return tokens per chunk since the load was in full swing, 1 until that can be told.

        Tokens are known of completed requests only, chunks of those in flight too; once the batch has turned over,
        as many chunks enter the stock in flight as leave it, so that the ratio of the increases is right.
        """
        if self._handle is None:
            return 1.0
        state = self._handle.snapshot()
        turnover = max(1.0, self.target_in_flight or 1.0)
        if state.completed < RATIO_NEEDS * turnover:
            return 1.0
        if self._counted_from is None:
            self._counted_from = (state.completed, state.output_tokens, state.content_chunks)
        completed, tokens, chunks = self._counted_from
        if state.completed - completed < RATIO_NEEDS * turnover or state.content_chunks <= chunks:
            return 1.0
        return (state.output_tokens - tokens) / (state.content_chunks - chunks) or 1.0

    def boundaries_s(self) -> Series | None:
        """Return ``None``: windows may end anywhere."""
        return None

    def failure(self) -> MeasurementError | None:
        """Return why the load has ended by itself: the server refuses, has died, or hangs."""
        if self._handle is None:
            return None
        if self._handle.done:
            return self._ended()
        state = self._handle.snapshot()
        silent_s = time.monotonic() - state.last_arrival_s
        if state.content_chunks and state.in_flight and silent_s > self._hung_s:
            msg = f"the server at {self._target.url} hangs: nothing came for {silent_s:.0f} s"
            return ServerError(msg, fix="look at the server's log")
        return self._death(state.last_arrival_s, state.failed, silent_s) if state.content_chunks else None

    def _death(self, last_arrival_s: float, failed: int, silent_s: float) -> ServerError | None:
        """Return that the server has died, if requests have failed without a byte for a while."""
        if last_arrival_s > self._last_sign[0]:
            self._last_sign = (last_arrival_s, failed)
        failures = failed - self._last_sign[1]
        if silent_s <= DEAD_S or failures < DEAD_FAILURES:
            return None
        msg = (
            f"the server at {self._target.url} died: {failures} requests failed in {silent_s:.0f} s without a byte"
        )
        return ServerError(msg, fix="look at the server's log")

    def _ended(self) -> MeasurementError:
        self._collect()
        if isinstance(self._lost, MeasurementError):
            return self._lost
        if self._lost is not None:
            return MeasurementError(self._lost.message, fix=self._lost.fix)
        reasons = [] if self._result is None else list(self._result.reasons)
        msg = f"the load on {self._target.url} ended: {'; '.join(reasons) or 'all requests were made'}"
        return ServerError(msg, fix="look at the server's log")

    def stop(self) -> None:
        """End the load and collect what it saw."""
        if self._handle is not None and self._result is None:
            self.progress()
            self._handle.stop()
            self._collect()
            self._handle.close()

    def _collect(self) -> None:
        if self._handle is None or self._result is not None or self._lost is not None:
            return
        try:
            self._result = self._handle.result()
        except JoulemapError as error:
            self._lost = error

    def outputs_between(self, begin_s: float, end_s: float) -> float:
        """Return the outputs of a window, now that every request's token count is known."""
        if self._result is None:
            return self._log.outputs_between(begin_s, end_s)
        window = evaluate(self._result, begin_s, end_s)
        return float(window.images) if self._draws else window.output_tokens

    def done(self, begin_s: float, end_s: float) -> WorkDone:
        """Return what the client saw of a window."""
        if self._result is None:
            why = self._lost.message if self._lost is not None else "the load was never started"
            return WorkDone(outputs=self.outputs_between(begin_s, end_s), faults=(f"client: {why}",))
        window = evaluate(self._result, begin_s, end_s)
        served = self._result.requests.filter(self._result.requests["error"].is_null())
        return WorkDone(
            outputs=float(window.images) if self._draws else window.output_tokens,
            measured=_measured(window),
            missing={} if window.completed else {"latency_median_s": "no request ended within the windows"},
            mean_input_tokens=_mean(served["input_tokens"].drop_nulls().to_list()),
            mean_output_tokens=_mean(served["output_tokens"].drop_nulls().to_list()),
            faults=(*window.reasons, *_failures(window, self._result)),
            notes=window.notes,
        )

    def timeline(self) -> Mapping[str, object]:
        """Return the requests, and the client's own states over time."""
        if self._result is None:
            return {}
        return {"requests": self._result.requests, "client": self._result.samples}


def _measured(window: LoadWindow) -> dict[str, float]:
    values: dict[str, float | None] = {
        "completed_requests": float(window.completed),
        "failed_requests": float(window.failed),
        "total_input_tokens": float(window.input_tokens),
        "total_output_tokens": window.output_tokens,
        "request_throughput_per_s": window.completed / (window.end_s - window.start_s),
        "client_cpu_share": window.client_cpu_share,
        **_times("itl", window.itl, "median", "p90", "p95", "p99"),
        **_times("ttft", window.ttft, "median", "p90", "p95", "p99"),
        **_times("tpot", window.tpot, "median", "p99"),
        **_times("latency", window.latency, "median", "p99"),
    }
    return {name: value for name, value in values.items() if value is not None}


def _times(name: str, times: Percentiles | None, *quantiles: str) -> dict[str, float | None]:
    return {f"{name}_{q}_s": getattr(times, f"{q}_s", None) for q in ("mean", *quantiles)}


def _failures(window: LoadWindow, result: LoadResult) -> tuple[str, ...]:
    asked = window.completed + window.failed
    if not asked or window.failed <= TOLERATED_FAILURES * asked:
        return ()
    kinds = ", ".join(f"{count} × {kind}" for kind, count in result.failures.items())
    return (f"{window.failed} of {asked} requests failed ({kinds} in the whole load)",)


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None
