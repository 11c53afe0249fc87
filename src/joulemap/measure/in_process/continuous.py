"""Serving requests in this process, by transformers' continuous batching: as one ends, the next is added."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl

from joulemap.errors import InfeasibleError, MeasurementError
from joulemap.measure.in_process.language_model import LoadedModel
from joulemap.measure.in_process.libraries import load
from joulemap.measure.in_process.static_decode import StaticShape
from joulemap.measure.in_process.thread_work import WorkThread, first_line
from joulemap.measure.session.progress_log import ProgressLog, between
from joulemap.measure.session.work import Progress, Series, WorkDone

BLOCK_TOKENS = 256
"""Tokens in one block of transformers' paged cache."""
STALL_S = 60.0
"""Time without any token after which the loop counts as hung."""
STOP_S = 30.0
QUANTILES = {"median": 50, "p90": 90, "p95": 95, "p99": 99}


@dataclass(slots=True)
class _Request:
    """A request under way."""

    added_s: float
    first_s: float = float("nan")
    last_s: float = float("nan")
    tokens: int = 0


class ContinuousServing:
    """Keeps ``batch`` requests in flight; a :class:`~joulemap.measure.session.work.Work`.

    Args:
        loaded: A model.
        shape: Requests in flight, and the lengths of every one of them.
    """

    mixes = True

    def __init__(self, loaded: LoadedModel, shape: StaticShape) -> None:
        self._loaded = loaded
        self._shape = shape
        self._log = ProgressLog()
        self._thread = WorkThread(self._step, "continuous batching")
        self._manager: Any = None
        self._random = np.random.default_rng(0)
        self._live: dict[str, _Request] = {}
        self._added = self._tokens = self._completed = self._failed = 0
        self._last_s = time.monotonic()
        self._gaps: list[tuple[float, float]] = []
        self._finished: list[tuple[float, float, float, float]] = []
        self.target_in_flight: float | None = float(shape.batch)

    def start(self) -> None:
        """Start the loop and add the first requests.

        Raises:
            InfeasibleError: The cache does not fit into memory.
        """
        torch, shape = self._loaded.torch, self._shape
        transformers = load("transformers", extra="transformers", needed_for="--transformers")
        blocks = -(-(shape.input_tokens + shape.output_tokens) // BLOCK_TOKENS) + 1
        wanted = {
            "num_blocks": blocks * shape.batch + 1,
            "max_requests_per_batch": shape.batch,
            "max_batch_tokens": max(shape.batch, 4 * shape.input_tokens),
            "allow_block_sharing": False,
        }
        config = transformers.ContinuousBatchingConfig
        known = {f.name for f in fields(config)}
        generation = transformers.GenerationConfig(
            max_new_tokens=shape.output_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        try:
            self._manager = self._loaded.model.init_continuous_batching(
                generation_config=generation,
                continuous_batching_config=config(**{n: v for n, v in wanted.items() if n in known}),
            )
            self._manager.start()
        except torch.OutOfMemoryError as error:
            msg = f"a batch of {shape.batch} does not fit into memory: {first_line(error)}"
            raise InfeasibleError(msg, fix="choose a smaller batch or shorter lengths") from error
        except (ValueError, TypeError, RuntimeError) as error:
            msg = f"transformers' continuous batching does not start: {first_line(error)}"
            raise MeasurementError(msg, fix="--static-batch needs no continuous batching") from error
        for _ in range(shape.batch):
            self._add()
        self._last_s = time.monotonic()
        self._thread.start()

    def _add(self) -> None:
        config = self._loaded.model.config.get_text_config()
        ids = self._random.integers(0, config.vocab_size, self._shape.input_tokens).tolist()
        name = f"request-{self._added}"
        self._added += 1
        self._live[name] = _Request(added_s=time.monotonic())
        self._manager.add_request(
            ids, request_id=name, max_new_tokens=self._shape.output_tokens, streaming=True, eos_token_id=-1
        )

    def _step(self) -> None:
        """Take what has come out since the last step."""
        output = self._manager.get_result(timeout=0.05)
        if output is None:
            self._notice_end()
            return
        outputs = [output]
        # All tokens of one forward pass come together: they get one time.
        while not self._manager.output_router.output_queue.empty():
            more = self._manager.get_result(timeout=0.0)
            if more is None:
                break
            outputs.append(more)
        now_s = self._last_s = time.monotonic()
        for one in outputs:
            self._take(one, now_s)
        self._log.add(now_s, len(self._live), self._tokens, self._completed, self._failed)

    def _notice_end(self) -> None:
        fatal = self._manager.background_thread_status.fatal_error
        if fatal is not None or not self._manager.is_running():
            reason = first_line(fatal) if fatal is not None else "its thread ended"
            msg = f"transformers' continuous batching ended: {reason}"
            raise MeasurementError(msg, fix="--static-batch needs no continuous batching")
        if time.monotonic() - self._last_s > STALL_S and self._tokens:
            msg = f"no token came for {STALL_S:g} s"
            raise MeasurementError(msg)

    def _take(self, output: Any, now_s: float) -> None:
        request = self._live.get(output.request_id)
        if request is None:
            return
        new = len(output.generated_tokens) - request.tokens
        if new > 0:
            if request.tokens:
                self._gaps.append((now_s, (now_s - request.last_s) / new))
            else:
                request.first_s = now_s
            request.last_s = now_s
            request.tokens += new
            self._tokens += new
        if output.is_finished():
            del self._live[output.request_id]
            if output.error:
                self._failed += 1
            else:
                self._completed += 1
                self._finished.append(
                    (now_s, request.first_s - request.added_s, now_s - request.added_s, request.tokens)
                )
            if not self._thread.stopping:
                self._add()

    def progress(self) -> Progress:
        """Return everything that is known so far."""
        return self._log.read()

    def boundaries_s(self) -> Series | None:
        """Return ``None``: windows may end anywhere."""
        return None

    def failure(self) -> MeasurementError | None:
        """Return why the loop has ended by itself."""
        return self._thread.failure

    def stop(self) -> None:
        """End the loop, drop what is under way, and free its memory."""
        self._thread.stop()
        if self._manager is not None:
            self._manager.stop(block=True, timeout=STOP_S, hard_stop=True)
            self._manager.destroy()
            self._manager = None
            if self._loaded.device.type == "cuda":
                self._loaded.torch.cuda.empty_cache()

    def outputs_between(self, begin_s: float, end_s: float) -> float:
        """Return the tokens of a window."""
        return self._log.outputs_between(begin_s, end_s)

    def done(self, begin_s: float, end_s: float) -> WorkDone:
        """Return the requests and tokens of a window."""
        progress = self._log.read()
        outputs = self._log.outputs_between(begin_s, end_s)
        finished = np.array(self._finished, dtype=np.float64).reshape(-1, 4)
        finished = finished[between(finished[:, 0], begin_s, end_s)]
        gaps = np.array(self._gaps, dtype=np.float64).reshape(-1, 2)
        gaps = gaps[between(gaps[:, 0], begin_s, end_s)]
        failed = float(np.diff(np.interp([begin_s, end_s], progress.time_s, progress.failed))[0])
        measured: dict[str, float] = {
            "completed_requests": float(len(finished)),
            "failed_requests": failed,
            "total_output_tokens": outputs,
            "request_throughput_per_s": len(finished) / (end_s - begin_s),
        }
        _describe(measured, "itl", gaps[:, 1])
        _describe(measured, "ttft", finished[:, 1])
        _describe(measured, "latency", finished[:, 2], only=("median", "p99"))
        missing = {} if len(finished) else {"ttft_median_s": "no request ended within the windows"}
        return WorkDone(
            outputs=outputs,
            measured=measured,
            missing=missing,
            mean_input_tokens=float(self._shape.input_tokens),
            mean_output_tokens=float(self._shape.output_tokens),
            faults=(f"{failed:.0f} requests failed",) if failed else (),
            notes=("served by transformers' continuous batching",),
        )

    def timeline(self) -> Mapping[str, object]:
        """Return the progress and the finished requests."""
        progress = self._log.read()
        names = ("t_mono_s", "ttft_s", "latency_s", "output_tokens")
        return {
            "steps": pl.DataFrame(
                {"t_mono_s": progress.time_s, "in_flight": progress.in_flight, "outputs": progress.outputs}
            ),
            "requests": pl.DataFrame(self._finished, schema=dict.fromkeys(names, pl.Float64), orient="row"),
        }


def _describe(
    measured: dict[str, float], name: str, values: Series, only: tuple[str, ...] = tuple(QUANTILES)
) -> None:
    """Enter mean and percentiles of some times, where there are any."""
    if values.size:
        measured[f"{name}_mean_s"] = float(values.mean())
        for quantile in only:
            measured[f"{name}_{quantile}_s"] = float(np.percentile(values, QUANTILES[quantile]))
