"""Cores for an engine that is started here, and others for its client, so that neither delays the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSplit:
    """Who runs where; both are empty where there is only one core, or where cores cannot be chosen (macOS)."""

    engine: tuple[int, ...] = ()
    client: tuple[int, ...] = ()


def split_cores() -> CoreSplit:
    """Return the cores that this process may use, all but the last for the engine."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(usable) < 2:
        return CoreSplit()
    return CoreSplit(engine=tuple(usable[:-1]), client=(usable[-1],))


def pin(pids: Collection[int], cores: Collection[int]) -> None:
    """Bind the main threads of processes, and what they start from now on, to cores; without cores do nothing."""
    for pid in pids if cores else ():
        # One that has died meanwhile is noticed by who started it.
        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process(pid).cpu_affinity(list(cores))
