"""Rigs that are closed at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.watch.rig import Request, Rig

MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(requests: list[Request] | None = None, **more: Any) -> Rig:
        made.append(Rig(tmp_path, requests or [], **more))
        return made[-1]

    yield make
    for rig in made:
        rig.agent.close()
