"""The run store as the pages see it: read once, and again when a measurement or an import has added runs."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import polars as pl

from joulemap.store.run_store import RunStore, open_store

T = TypeVar("T")

MOST_KEPT = 64
"""Results kept; the oldest make room."""
LOOK_EVERY_S = 1.0
"""How long the list of parts is taken as it was; listing object storage takes its time."""


class RunsAtHand:
    """Gives the store, and keeps what was computed from it until its runs change.

    Args:
        location: The store's folder or URL; the default one if ``None``.
    """

    def __init__(self, location: str | None) -> None:
        self._store = open_store(location)
        self._snapshot = self._store
        self._lock = threading.Lock()
        self._looked_s = -LOOK_EVERY_S
        self._ids: pl.Series | None = None
        self._kept: dict[Hashable, Any] = {}

    def store(self) -> RunStore:
        """Return the store as it will stay for whoever holds it.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._looked_s >= LOOK_EVERY_S:
                self._look()
                self._looked_s = now_s
            return self._snapshot

    def kept(self, key: Hashable, compute: Callable[[RunStore], T]) -> T:
        """Return what ``compute`` gives for the runs as they are, computed once."""
        store = self.store()
        kept = self._kept
        if key not in kept:
            # Two threads may both compute it; that is no harm, and better than one that waits for the other.
            kept[key] = value = compute(store)
            while len(kept) > MOST_KEPT:
                kept.pop(next(iter(kept)), None)
            return value
        return cast("T", kept[key])

    def peek(self, key: Hashable) -> Any | None:
        """Return what was computed already, ``None`` if nothing was."""
        return self._kept.get(key)

    def _look(self) -> None:
        self._store.refresh()
        ids = self._store.run_ids
        if self._ids is None or not ids.equals(self._ids):
            # What a page holds stays as it is; only new files are read again.
            self._snapshot, self._ids, self._kept = copy.copy(self._store), ids, {}
