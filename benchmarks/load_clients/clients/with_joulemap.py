"""joulemap's own load client, in one worker process, as a session uses it."""

from __future__ import annotations

import json
import sys

from joulemap.measure.load.handle import start_load
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.plan import ClosedLoop, Limits, LoadPlan
from joulemap.measure.load.process import peak_rss_bytes
from joulemap.measure.load.prompts import SyntheticPrompts
from joulemap.measure.load.target import Target

URL, STREAMS, REQUESTS, RAMP_S = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])

plan = LoadPlan(
    arrivals=ClosedLoop(concurrency=STREAMS, ramp_s=RAMP_S),
    prompts=SyntheticPrompts(input_tokens=FixedLength(100), output_tokens=FixedLength(128)),
    max_requests=REQUESTS,
    limits=Limits(drain_s=60.0),
)
with start_load(plan, Target(url=URL, model="mock"), workers=1) as load:
    result = load.result()
table_mb = peak_rss_bytes() / 1e6

# Evaluating needs NumPy and Polars, which the load itself does not.
import numpy as np  # noqa: E402

from joulemap.measure.load.window import evaluate, full_span  # noqa: E402


def summary(values_s: np.ndarray) -> list[float]:
    """Return mean, median and 99th percentile."""
    return [float(np.mean(values_s, dtype=np.float64)), *np.percentile(values_s, [50, 99]).tolist()]


span = full_span(result)
window = evaluate(result, *span) if span else None
told = {
    "own_verdict": list(window.reasons) if window else ["the batch was never full"],
    "ttft_s": summary(result.requests["ttft_s"].drop_nulls().to_numpy()),
    "gap_s": summary(result.gaps_s),
    "errors": result.failures,
    "in_flight": window.in_flight if window else None,
    "table_mb": table_mb,
}
print(json.dumps(told))
