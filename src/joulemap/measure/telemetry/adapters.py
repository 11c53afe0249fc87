"""The engines whose metrics joulemap reads, and how to tell from a metrics text which one it is."""

from __future__ import annotations

import re

from joulemap.errors import ServerError
from joulemap.measure.telemetry.llamacpp import LLAMACPP
from joulemap.measure.telemetry.sample import EngineAdapter
from joulemap.measure.telemetry.sglang import SGLANG
from joulemap.measure.telemetry.triton import TRITON
from joulemap.measure.telemetry.trtllm import TRTLLM
from joulemap.measure.telemetry.vllm import VLLM

ADAPTERS: tuple[EngineAdapter, ...] = (VLLM, SGLANG, LLAMACPP, TRTLLM, TRITON)


def detect_engine(text: str) -> EngineAdapter:
    """Return the adapter of the engine that wrote a metrics text.

    Raises:
        ServerError: It is the text of no engine that is known; says what it is like.
    """
    lines, adapter = max(
        ((sum(_lines_with(mark, text) for mark in a.marks), a) for a in ADAPTERS), key=lambda pair: pair[0]
    )
    if lines:
        return adapter
    names = ", ".join(a.engine for a in ADAPTERS)
    first = text.strip().splitlines()[0][:80] if text.strip() else "nothing"
    msg = f"no metrics of a known engine ({names}); the text begins with {first!r}"
    raise ServerError(
        msg, fix="start vLLM as it is, SGLang with --enable-metrics, llama.cpp with --metrics; Triton: port 8002"
    )


def _lines_with(mark: str, text: str) -> int:
    return len(re.findall(rf"^{re.escape(mark)}", text, flags=re.MULTILINE))
