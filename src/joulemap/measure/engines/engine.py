"""What a sweep must know of an engine: the command that serves one configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What an engine is to serve, and where."""

    model: str
    """An id or a path."""
    port: int
    host: str = "127.0.0.1"
    tensor_parallel: int = 1
    expert_parallel: bool = False
    max_num_seqs: int = 1
    precision: str | None = None
    """Precision of the weights; ``None`` is the model's own."""
    max_model_len: int | None = None
    arguments: tuple[str, ...] = ()
    """Further words for the command."""


@runtime_checkable
class EngineTemplate(Protocol):
    """An engine that sweeps can start."""

    @property
    def name(self) -> str:
        """Its name in sweep files."""
        ...

    @property
    def uses_gpus(self) -> bool:
        """Whether it computes on GPUs."""
        ...

    @property
    def image(self) -> str | None:
        """The image that is run where none is stated; ``None`` if one must be."""
        ...

    def command(self, serving: Serving) -> Sequence[str]:
        """Return the command, program first; it is also run inside a container."""
        ...


def precision_words(precision: str | None, model: str, *, flag: str, quantised: str) -> list[str]:
    """Return the options that ask for a precision: a type of numbers, or a quantisation of the weights.

    A model whose name states the precision is published in it, and needs no option.

    >>> precision_words("fp8", "Qwen/Qwen3-32B", flag="--dtype", quantised="--quantization")
    ['--quantization', 'fp8']
    >>> precision_words("fp8", "Qwen/Qwen3-32B-FP8", flag="--dtype", quantised="--quantization")
    []
    """
    if precision is None or precision == "auto" or precision.casefold() in model.casefold():
        return []
    if precision in {"bfloat16", "float16", "float32"}:
        return [flag, precision]
    return [quantised, precision]
