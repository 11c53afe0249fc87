"""A decoding step, repeated at a fixed batch and a fixed context: the cleanest view of one operating point.

Every step is the same: ``batch`` sequences, each with ``context`` tokens in the KV cache, get one token more. The
cache is filled beforehand and its last slot written anew each time, so that neither prefill nor growing contexts
blur the step; attention reads all of it, without padding or mask. On a GPU the step is captured once as a CUDA
graph, so that the host's overhead does not count.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from joulemap.errors import InfeasibleError, MeasurementError
from joulemap.measure.in_process.language_model import LoadedModel
from joulemap.measure.in_process.libraries import load
from joulemap.measure.in_process.thread_work import WorkThread, first_line
from joulemap.measure.session.progress_log import ProgressLog, between
from joulemap.measure.session.work import Progress, Series, WorkDone

ATTENTION = "joulemap_decode"
"""Name under which the attention without padding or mask is known to transformers."""
RING = 64
"""Steps after which the same random token ids come again; they spread work over experts."""
WARM_UP_STEPS = 3
NO_PREFILL = "the cache is filled beforehand: a static decoding loop has no prefill"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticShape:
    """One operating point."""

    batch: int
    input_tokens: int
    output_tokens: int

    @property
    def context_tokens(self) -> int:
        """Tokens that each step attends to: the mean over a reply, half of which is written on average."""
        return self.input_tokens + max(1, self.output_tokens // 2)


def register_attention(torch: Any) -> None:
    """Make the attention known to transformers."""
    transformers = load("transformers", extra="transformers", needed_for="--transformers")

    def attend(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: Any = None, **kwargs: Any
    ) -> tuple[Any, None]:
        del attention_mask
        if kwargs.get("softcap") or kwargs.get("s_aux") is not None:
            msg = f"{type(module).__name__} needs soft-capped or sink attention, which a static loop does not have"
            raise MeasurementError(msg, fix="measure it through a serving engine")
        grouped = query.shape[1] != key.shape[1]
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling, enable_gqa=grouped)
        return out.transpose(1, 2).contiguous(), None

    transformers.AttentionInterface.register(ATTENTION, attend)


def make_cache(torch: Any, loaded: LoadedModel, shape: StaticShape) -> Any:
    """Return a KV cache filled with noise, whose last slot is written anew at every step."""
    from transformers.cache_utils import Cache

    config = loaded.model.config.get_text_config()
    heads = config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    other = set(kinds) - {"full_attention", "sliding_attention"}
    if other:
        msg = f"layers of kind {', '.join(sorted(other))} have no KV cache that a static loop could fill"
        raise MeasurementError(msg, fix="measure this model through a serving engine")

    class FilledCache(Cache):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(layers=[])
            self.kept = []
            for kind in kinds:
                length = shape.context_tokens
                if kind == "sliding_attention":
                    length = min(length, config.sliding_window)
                size = (shape.batch, heads, length, width)
                make = {"dtype": loaded.model.dtype, "device": loaded.device}
                self.kept.append((torch.randn(size, **make), torch.randn(size, **make)))

        def update(self, key_states: Any, value_states: Any, layer_idx: int, *_a: Any, **_k: Any) -> Any:
            keys, values = self.kept[layer_idx]
            keys[:, :, -1:].copy_(key_states)
            values[:, :, -1:].copy_(value_states)
            return keys, values

        def get_seq_length(self, *_a: Any, **_k: Any) -> int:
            return shape.context_tokens - 1

        def size_bytes(self) -> int:
            return sum(t.numel() * t.element_size() for pair in self.kept for t in pair)

    return FilledCache()


class StaticDecode:
    """Repeats one decoding step; a :class:`~joulemap.measure.session.work.Work`.

    Args:
        loaded: A model built with the attention ``ATTENTION``.
        shape: Batch and lengths.
        cuda_graph: Capture the step as a CUDA graph where there is a GPU.
    """

    mixes = False

    def __init__(self, loaded: LoadedModel, shape: StaticShape, *, cuda_graph: bool = True) -> None:
        self._loaded = loaded
        self._torch = loaded.torch
        self._shape = shape
        self._wants_graph = cuda_graph and loaded.device.type == "cuda"
        self._log = ProgressLog()
        self._tokens = 0
        self._thread = WorkThread(self._step, "the decoding loop")
        self._run: Any = None
        self._kept: list[Any] = []
        self.notes: list[str] = []
        self.target_in_flight: float | None = float(shape.batch)

    def start(self) -> None:
        """Fill the cache, capture the step and begin.

        Raises:
            InfeasibleError: The cache does not fit into memory.
        """
        torch = self._torch
        try:
            with torch.inference_mode():
                self._prepare()
        except torch.OutOfMemoryError as error:
            self._release()
            msg = (
                f"a batch of {self._shape.batch} with {self._shape.context_tokens} tokens each does not fit "
                f"into the memory beside the weights: {first_line(error)}"
            )
            raise InfeasibleError(msg, fix="choose a smaller batch or shorter lengths") from error
        self._thread.start()

    def _prepare(self) -> None:
        torch, loaded, shape = self._torch, self._loaded, self._shape
        cache = make_cache(torch, loaded, shape)
        config = loaded.model.config.get_text_config()
        make = {"device": loaded.device, "dtype": torch.long}
        ring = torch.randint(0, config.vocab_size, (RING, shape.batch, 1), **make)
        turn = torch.zeros((), **make)
        position = torch.full((1, 1), shape.context_tokens - 1, **make)
        picked = torch.zeros((shape.batch,), **make)

        def step() -> None:
            # All on the device: the next ids are drawn from the ring, and the step ends with a greedy choice.
            ids = ring.index_select(0, turn.reshape(1)).squeeze(0)
            out = loaded.model(input_ids=ids, position_ids=position, past_key_values=cache, use_cache=True)
            picked.copy_(out.logits[:, -1].argmax(dim=-1))
            turn.add_(1).remainder_(RING)

        self.notes.append(
            f"static decoding loop at {shape.context_tokens} tokens of context: no prefill in time or energy; "
            f"KV cache of {cache.size_bytes()} bytes"
        )
        self._kept = [cache, ring, turn, position, picked]
        self._run = step
        if self._wants_graph:
            self._run = self._captured(step)
        else:
            for _ in range(WARM_UP_STEPS):
                step()

    def _captured(self, step: Any) -> Any:
        """Return the step as a graph's replay, or as it is where it cannot be captured."""
        torch = self._torch
        torch.cuda.set_device(self._loaded.device)
        side = torch.cuda.Stream(self._loaded.device)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                step()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize(self._loaded.device)
        graph = torch.cuda.CUDAGraph()
        try:
            # Only this thread's calls matter: meters talk to the driver from others.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                step()
            graph.replay()
            torch.cuda.synchronize(self._loaded.device)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.synchronize(self._loaded.device)
            self.notes.append(f"no CUDA graph, so that the host's overhead counts: {first_line(error)}")
            return step
        self.notes.append("one CUDA graph a step")
        self._kept.append(graph)
        return graph.replay

    def _step(self) -> None:
        torch = self._torch
        with torch.inference_mode():
            if self._loaded.device.type == "cuda":
                # A thread of its own has its own current device.
                with torch.cuda.device(self._loaded.device):
                    self._run()
                    torch.cuda.current_stream().synchronize()
            else:
                self._run()
        self._tokens += self._shape.batch
        self._log.add(time.monotonic(), self._shape.batch, self._tokens, self._tokens / self._shape.output_tokens)

    def progress(self) -> Progress:
        """Return everything that is known so far."""
        return self._log.read()

    def boundaries_s(self) -> Series | None:
        """Return ``None``: all steps are alike."""
        return None

    def failure(self) -> MeasurementError | None:
        """Return why the loop has ended by itself."""
        return self._thread.failure

    def stop(self) -> None:
        """End the loop and free its memory."""
        self._thread.stop()
        self._release()

    def _release(self) -> None:
        self._run = None
        self._kept = []
        if self._loaded.device.type == "cuda":
            self._torch.cuda.empty_cache()

    def outputs_between(self, begin_s: float, end_s: float) -> float:
        """Return the tokens of a window."""
        return self._log.outputs_between(begin_s, end_s)

    def done(self, begin_s: float, end_s: float) -> WorkDone:
        """Return the steps of a window."""
        progress = self._log.read()
        inside = between(progress.time_s, begin_s, end_s)
        steps_s = np.diff(progress.time_s[inside])
        outputs = self._log.outputs_between(begin_s, end_s)
        measured: dict[str, float] = {}
        if len(steps_s):
            p50, p90, p95, p99 = np.percentile(steps_s, [50, 90, 95, 99])
            measured = {
                "itl_mean_s": float(steps_s.mean()),
                "itl_median_s": float(p50),
                "itl_p90_s": float(p90),
                "itl_p95_s": float(p95),
                "itl_p99_s": float(p99),
                "tpot_mean_s": float(steps_s.mean()),
                "total_output_tokens": outputs,
            }
        missing = dict.fromkeys(
            ("ttft_median_s", "latency_median_s", "energy_per_request_j", "request_throughput_per_s"), NO_PREFILL
        )
        return WorkDone(outputs=outputs, measured=measured, missing=missing, notes=tuple(self.notes))

    def timeline(self) -> Mapping[str, object]:
        """Return the steps."""
        progress = self._log.read()
        return {
            "steps": pl.DataFrame(
                {"t_mono_s": progress.time_s, "in_flight": progress.in_flight, "outputs": progress.outputs}
            )
        }
