"""The server's front end holds requests that the engine has room for."""

from __future__ import annotations

import math

from joulemap.diagnose.bounds import held_outside
from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Finding
from joulemap.diagnose.findings.wording import relief, weight_of

NAME = "held-by-front-end"


def find(case: Case) -> Finding | None:
    """Find it where requests in flight are neither running nor queued in the engine."""
    held = held_outside(case.row)
    if held is None:
        return None
    in_flight, waiting = case.row["max_concurrency"], case.row["requests_waiting"]
    # The gain is that of twice the batch; the batch would grow by what is held.
    change = relief(case.batch_gain_ratio ** math.log2(1.0 + held / case.batch))
    evidence = [
        f"the clients kept {in_flight} requests in flight; the engine ran {case.batch:.0f} and queued {waiting:.0f}"
    ]
    if case.row["ttft_median_s"] is not None:
        evidence.append(f"half of the requests waited {case.row['ttft_median_s']:.2g} s for their first token")
    if case.row["output_throughput_per_s"] is not None:
        evidence.append(f"the front end streamed {case.row['output_throughput_per_s']:,.0f} outputs a second")
    return Finding(
        name=NAME,
        cause="the server's front end (HTTP, tokenising, streaming) cannot keep up, so that the engine runs fewer "
        "requests than there are",
        evidence=tuple(evidence),
        lever="more API server processes (vLLM: --api-server-count), several tokens in each streamed chunk (vLLM: "
        "--stream-interval), or more host cores",
        change=change,
        confidence=0.8,
        weight=max(weight_of(change), held / in_flight),
        falsified_by="as many requests running in the engine with more front-end processes",
        shows=Bound.HOST,
    )
