"""Sampling 8 GPUs at 10 Hz must cost at most 1 % of a core (fake NVML: the bindings' own cost comes on top)."""

from __future__ import annotations

import time

from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import DeviceReading
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.sampler import Sampler

GPUS = 8
RATE_HZ = 10.0
SECONDS_S = 10.0
LIMIT = 0.01


def test_sampling_costs_at_most_one_percent_of_a_core() -> None:
    meter = NvidiaMeter(FakeNvml(GPUS), environment={})
    sampler = Sampler(meter, DeviceReading, rate_hz=RATE_HZ)
    cpu_s, begin_s = time.process_time(), time.monotonic()
    with sampler:
        time.sleep(SECONDS_S)
    ratio = (time.process_time() - cpu_s) / (time.monotonic() - begin_s)
    status = sampler.status()
    expected = SECONDS_S * RATE_HZ
    print(
        f"\nsampling {GPUS} GPUs at {RATE_HZ:g} Hz: {ratio:.3%} of a core "
        f"({ratio / (RATE_HZ * GPUS) * 1e6:.0f} µs a GPU and read), {status.reads} reads, {status.skipped} skipped"
    )
    assert status.error is None
    assert abs(status.reads + status.skipped - expected) <= 3
    assert ratio <= LIMIT
