"""What the load client's tests share: a small load on a mock server."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from joulemap.measure.load.handle import run_load
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.plan import ClosedLoop, Limits, LoadPlan
from joulemap.measure.load.prompts import SyntheticPrompts
from joulemap.measure.load.result import LoadResult
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.mock_server import MockBehaviour, MockServerProcess

SWIFT = MockBehaviour(ttft_s=0.02, itl_s=0.004, tokens=10)
"""A server that answers a request in 56 ms."""
SHORT = SyntheticPrompts(input_tokens=FixedLength(12), output_tokens=FixedLength(10))
PATIENT = Limits(drain_s=10.0, failures_in_a_row=1000)


def plan_of(requests: int = 8, *, concurrency: int = 4) -> LoadPlan:
    """Return a plan of a few short requests, all of which are waited for."""
    return LoadPlan(
        arrivals=ClosedLoop(concurrency=concurrency), prompts=SHORT, max_requests=requests, limits=PATIENT
    )


def target_of(url: str, endpoint: Endpoint = Endpoint.CHAT) -> Target:
    """Return the mock server as a target."""
    return Target(url=url, model="mock", endpoint=endpoint)


def load_of(
    behaviour: MockBehaviour, plan: LoadPlan | None = None, *, endpoint: Endpoint = Endpoint.CHAT
) -> LoadResult:
    """Run a load on a mock server of its own."""
    with MockServerProcess(behaviour) as server:
        return asyncio.run(run_load(plan or plan_of(), target_of(server.url, endpoint)))


def swift(**changes: object) -> MockBehaviour:
    """Return the swift server with some fields changed."""
    return replace(SWIFT, **changes)  # type: ignore[arg-type]
