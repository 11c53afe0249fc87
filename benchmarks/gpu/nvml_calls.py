"""What each call to a GPU's driver costs, so that the meter asks for no more than it can afford.

Prints one JSON object: for each call, the time and the CPU that it takes; what the energy counter of each GPU takes
when it is read with pauses, as a sampler does; and what sampling with the product's own meter takes. Usage:
``python -m benchmarks.gpu.nvml_calls [--fake]``; needs nothing but joulemap.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml

from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import DeviceReading
from joulemap.measure.meters.nvidia import ENERGY_FIELD, FIELDS, NvidiaMeter
from joulemap.measure.meters.sampler import Sampler

TIMES = 50
PAUSED_TIMES = 20
SAMPLED_S = 10.0
RATE_HZ = 10.0


def calls_of(nvml: Any, handle: Any) -> dict[str, Callable[[], object]]:
    """Return the calls that the meter makes, or could make, by name."""
    ids = {"energy_j": ENERGY_FIELD} | {name: field for name, field, _ in FIELDS}
    groups = {name: [field] for name, field in ids.items()}
    groups["energy and power in one call"] = [ids["energy_j"], ids["power_w"]]
    groups["all fields in one call"] = list(ids.values())
    calls: dict[str, Callable[[], object]] = {
        name: partial(nvml.nvmlDeviceGetFieldValues, handle, group) for name, group in groups.items()
    }
    return calls | {
        "nvmlDeviceGetTotalEnergyConsumption": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle),
        "nvmlDeviceGetPowerUsage": lambda: nvml.nvmlDeviceGetPowerUsage(handle),
        "nvmlDeviceGetClockInfo": lambda: nvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "nvmlDeviceGetTemperature": lambda: nvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "nvmlDeviceGetUtilizationRates": lambda: nvml.nvmlDeviceGetUtilizationRates(handle),
        "nvmlDeviceGetCurrentClocksEventReasons": lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
    }


def cost_of(call: Callable[[], object], times: int = TIMES, pause_s: float = 0.0) -> dict[str, float] | str:
    """Return the time and the CPU of one call, or why it is refused; ``pause_s`` before each as a sampler waits."""
    try:
        call()
    except pynvml.NVMLError as error:
        return str(error)
    begin_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(times):
        if pause_s:
            time.sleep(pause_s)
        call()
    return {
        "us": ((time.perf_counter() - begin_s) / times - pause_s) * 1e6,
        "cpu_us": (time.process_time() - cpu_s) / times * 1e6,
    }


def counters(nvml: Any) -> dict[str, dict[str, float] | str]:
    """Return what the energy counter of each GPU costs when it is read as a sampler does, with pauses."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    return {
        f"GPU {i}": cost_of(partial(nvml.nvmlDeviceGetTotalEnergyConsumption, handle), PAUSED_TIMES, 1.0 / RATE_HZ)
        for i, handle in enumerate(handles)
    }


def sampling(nvml: Any) -> dict[str, float]:
    """Return what the product's meter takes of a core, as it samples."""
    meter = NvidiaMeter(nvml, environment={})
    try:
        cpu_s, begin_s = time.process_time(), time.monotonic()
        with Sampler(meter, DeviceReading, rate_hz=RATE_HZ):
            time.sleep(SAMPLED_S)
        share = (time.process_time() - cpu_s) / (time.monotonic() - begin_s)
        gpus = len(meter.describe().devices)
    finally:
        meter.close()
    return {"gpus": gpus, "rate_hz": RATE_HZ, "core_share": share}


def main() -> None:
    nvml: Any = FakeNvml(1) if "--fake" in sys.argv else pynvml
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    told = {name: cost_of(call) for name, call in calls_of(nvml, handle).items()}
    print(json.dumps({"calls": told, "paused_counter": counters(nvml), "sampling": sampling(nvml)}, indent=1))
    nvml.nvmlShutdown()


if __name__ == "__main__":
    main()
