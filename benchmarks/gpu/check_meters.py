"""Checks joulemap's NVIDIA meter and GPM counters on a real GPU against work whose amount is known.

Prints one JSON object. Needs PyTorch with CUDA. Usage: ``python benchmarks/gpu/check_meters.py [SECONDS]``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pynvml
import torch

from joulemap.measure.activity.activity import ACTIVITY_RATE_HZ, DeviceActivity, activity_between
from joulemap.measure.activity.gpm import GpmActivity
from joulemap.measure.meters.energy import energy_between
from joulemap.measure.meters.meter import DeviceReading
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.sampler import Sampler
from joulemap.units import J_PER_MJ

GIB = 1 << 30


def main() -> None:
    seconds_s = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    meter, activity = NvidiaMeter(), GpmActivity()
    report: dict[str, Any] = {"meter": asdict(meter.describe()), "activity": asdict(activity.describe())}
    report["counter"] = counter_period()
    report["sampling"] = sampling_cost(meter)
    phases: dict[str, Callable[[float], dict[str, float]]] = {
        "bare_idle": idle,
        "copy": copying,
        "matmul_bf16": multiplying,
        "loaded_idle": idle,
    }
    begin_s = time.monotonic()
    with (
        Sampler(meter, DeviceReading, rate_hz=10.0) as power,
        Sampler(activity, DeviceActivity, rate_hz=ACTIVITY_RATE_HZ) as counters,
    ):
        time.sleep(1.0)
        windows = {}
        for name, work in phases.items():
            if name == "copy":
                _warm()
            start_s = time.monotonic()
            known = work(seconds_s)
            end_s = time.monotonic()
            windows[name] = (start_s, end_s, known)
            time.sleep(1.5)
        readings, active = power.frame(), counters.frame()
        report["errors"] = [str(s.status().error) for s in (power, counters) if s.status().error]
        report["gpm_missing"] = counters.status().missing
    report["phases"] = {}
    for name, (start_s, end_s, known) in windows.items():
        # The first seconds belong to the ramp of power and temperature.
        energy = energy_between(readings, start_s + 2.0, end_s - 0.5, meter.describe())
        device = energy.devices[0]
        gpus, reasons = activity.describe().devices, report["gpm_missing"]
        why: dict[str, str] = next(iter(reasons.values()), {})
        seen = activity_between(active, start_s + 2.0, end_s - 0.5, gpus, why)
        report["phases"][name] = {
            "seconds": energy.duration_s,
            "counter_j": device.counter_j,
            "integrated_j": device.integrated_j,
            "disagreement": device.disagreement,
            "mean_w": None if device.counter_j is None else device.counter_j / energy.duration_s,
            "gpm": dict(seen.values),
            "known": known,
            "missing": device.missing,
            "notes": device.notes,
        }
    report["total_s"] = time.monotonic() - begin_s
    temperatures = readings["temperature_c"].drop_nulls()
    report["temperature_c"] = [temperatures.min(), temperatures.max()]
    report["throttle"] = sorted(set(readings["throttle"].to_list()))
    print(json.dumps(report, indent=1, default=str))
    meter.close()
    activity.close()


def counter_period() -> dict[str, float]:
    """Return how often the energy counter moves, read as fast as it can be."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    moved: list[tuple[float, float]] = []
    last, reads = None, 0
    end_s = time.monotonic() + 3.0
    while (now_s := time.monotonic()) < end_s:
        energy = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * J_PER_MJ
        reads += 1
        if energy != last:
            moved.append((now_s, energy))
            last = energy
    times = np.diff([t for t, _ in moved])
    steps = np.diff([e for _, e in moved])
    return {
        "reads_per_s": reads / 3.0,
        "median_period_s": float(np.median(times)),
        "p90_period_s": float(np.quantile(times, 0.9)),
        "median_step_j": float(np.median(steps)),
    }


def sampling_cost(meter: NvidiaMeter) -> dict[str, float]:
    """Return the share of a core that sampling at 10 Hz takes."""
    with Sampler(meter, DeviceReading, rate_hz=10.0):
        time.sleep(0.2)
        begin_s, cpu_s = time.monotonic(), time.process_time()
        time.sleep(5.0)
        return {"core_share": (time.process_time() - cpu_s) / (time.monotonic() - begin_s)}


def idle(seconds_s: float) -> dict[str, float]:
    """Do nothing."""
    time.sleep(seconds_s)
    return {}


def copying(seconds_s: float) -> dict[str, float]:
    """Copy within device memory: read and write as many bytes."""
    source = torch.empty(8 * GIB, dtype=torch.uint8, device="cuda").random_(0, 255)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    passes, took_s = _repeat(copy, seconds_s)
    return {"bytes_per_s": 2.0 * source.numel() * passes / took_s}


def multiplying(seconds_s: float) -> dict[str, float]:
    """Multiply large random matrices in bfloat16."""
    n = 8192
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.matmul(a, b, out=out)

    passes, took_s = _repeat(multiply, seconds_s)
    return {"flops_per_s": 2.0 * n**3 * passes / took_s}


def _repeat(work: Callable[[], None], seconds_s: float) -> tuple[int, float]:
    passes = 0
    torch.cuda.synchronize()
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < seconds_s:
        for _ in range(20):
            work()
        torch.cuda.synchronize()
        passes += 20
    return passes, time.monotonic() - begin_s


def _warm() -> None:
    a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    for _ in range(50):
        a = a @ a * 0.01
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
