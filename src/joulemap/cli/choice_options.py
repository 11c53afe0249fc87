"""Options that ``frontier``, ``recommend`` and ``next`` share, and what they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from joulemap.cli.duration import seconds
from joulemap.errors import UsageError
from joulemap.optimize.constraints import Constraints
from joulemap.optimize.scope import SEARCHED, Scope
from joulemap.units import BYTES_PER_GB, BYTES_PER_GIB, BYTES_PER_MB, BYTES_PER_MIB

REPEATABLE = Parameter(negative="")
SWITCH = Parameter(negative="")
_SIZE = re.compile(r"\s*([0-9.]+)\s*(GB|GiB|MB|MiB)\s*")
_BYTES = {"GB": BYTES_PER_GB, "GiB": BYTES_PER_GIB, "MB": BYTES_PER_MB, "MiB": BYTES_PER_MIB}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ScopeOptions:
    """What is chosen among."""

    gpu: Annotated[tuple[str, ...], REPEATABLE] = ()
    """Only this GPU model; may be given again. By default those on which the model was measured."""
    gpus: Annotated[tuple[int, ...], REPEATABLE] = ()
    """Only this number of GPUs; may be given again."""
    precision: Annotated[tuple[str, ...], REPEATABLE] = ()
    """Only weights of this precision; may be given again."""
    measured_only: Annotated[bool, SWITCH] = False
    """Leave out what was interpolated or modelled."""
    lever: Annotated[tuple[str, ...], REPEATABLE] = ()
    """Search this lever too, for example kv_cache_precision or diffusion_work; may be given again."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What a configuration has to keep."""

    itl: str | None = None
    """Median inter-token latency at most, for example 50ms."""
    itl_p99: str | None = None
    """99th percentile of inter-token latency at most."""
    ttft: str | None = None
    """Median time to first token at most."""
    latency: str | None = None
    """Mean latency of a text request, or of a diffusion batch, at most."""
    throughput: float | None = None
    """Outputs (tokens, images, videos) per second at least, from all replicas together."""
    gpus_available: str | None = None
    """GPUs at hand, for example H100=8,B200=4."""
    memory: str | None = None
    """Memory of one GPU that weights and caches may take, for example 80GB."""
    quality_floor: str | None = None
    """Narrowest weights allowed, for example bf16, or fewest denoising steps, for example steps=28."""
    confidence: float = 0.9
    """How surely each limit has to be kept."""


def scope_of(model: str, task: str, options: ScopeOptions) -> Scope:
    """Return the scope that options mean."""
    return Scope(
        model=model,
        task=task,
        gpu_models=options.gpu,
        gpu_counts=options.gpus,
        precisions=options.precision,
        measured_only=options.measured_only,
        levers=tuple(dict.fromkeys((*SEARCHED, *options.lever))),
    )


def constraints_of(options: LimitOptions) -> Constraints:
    """Return the limits that options mean.

    Raises:
        UsageError: An option's value cannot be read.
    """

    def limit(text: str | None, option: str) -> float | None:
        return None if text is None else seconds(text, option)

    if options.throughput is not None and not options.throughput > 0:
        msg = f"--throughput {options.throughput:g} is not above 0"
        raise UsageError(msg, fix="--throughput 1000")
    precision, steps = _quality(options.quality_floor)
    return Constraints(
        itl_median_s=limit(options.itl, "--itl"),
        itl_p99_s=limit(options.itl_p99, "--itl-p99"),
        ttft_median_s=limit(options.ttft, "--ttft"),
        latency_s=limit(options.latency, "--latency"),
        output_throughput_per_s=options.throughput,
        gpus_available=_stock(options.gpus_available),
        memory_bytes=None if options.memory is None else size_bytes(options.memory, "--memory"),
        precision_floor=precision,
        steps_floor=steps,
        confidence=options.confidence,
    )


def size_bytes(text: str, option: str) -> float:
    """Return a size in bytes.

    >>> size_bytes("80GB", "--memory")
    80000000000.0

    Raises:
        UsageError: The text is no size.
    """
    found = _SIZE.fullmatch(text)
    if found is None or found[1].count(".") > 1 or not float(found[1].strip(".") or 0) > 0:
        msg = f"{option} {text!r} is not a size"
        raise UsageError(msg, fix=f"a positive number with its unit (GB, GiB, MB, MiB), for example {option} 80GB")
    return float(found[1]) * _BYTES[found[2]]


def _stock(text: str | None) -> dict[str, int]:
    stock: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in (text or "").split(","))):
        name, equals, count = (s.strip() for s in part.partition("="))
        if not equals or not name or not count.isdigit() or name in stock:
            msg = f"--gpus-available {text!r}: {part!r} is not a GPU model and its number"
            raise UsageError(msg, fix="--gpus-available H100=8,B200=4")
        stock[name] = int(count)
    return stock


def _quality(text: str | None) -> tuple[str | None, int | None]:
    if text is None:
        return None, None
    count = text.removeprefix("steps=").strip()
    if count.isdigit():
        return None, int(count)
    if text.startswith("steps="):
        msg = f"--quality-floor {text!r} is no number of steps"
        raise UsageError(msg, fix="--quality-floor steps=28")
    return text, None
