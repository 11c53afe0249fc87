"""GPU activity by NVML's GPM: hardware counters of Hopper and later, open to every user.

Source: NVML API reference, "GPM Functions": two samples make a reading, 100 ms or more apart; shares in percent,
link and bus rates in MiB/s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pynvml

from joulemap.clock import Clock, SystemClock
from joulemap.errors import EnvironmentLacksError
from joulemap.measure.activity.activity import QUANTITIES, ActivityDescription, ActivityReading, DeviceActivity
from joulemap.measure.meters.meter import Stopwatch
from joulemap.measure.meters.nvml import ENDING_CODES, NvmlError, OpenGpu, code_of, ended, open_gpus
from joulemap.units import BYTES_PER_MIB

MIN_INTERVAL_S = 0.1
PERCENT = 0.01

METRICS: tuple[tuple[str, int, float], ...] = (
    ("sm_utilization", pynvml.NVML_GPM_METRIC_SM_UTIL, PERCENT),
    ("sm_occupancy", pynvml.NVML_GPM_METRIC_SM_OCCUPANCY, PERCENT),
    ("compute_utilization", pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL, PERCENT),
    ("memory_bandwidth_utilization", pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL, PERCENT),
    ("nvlink_rx_bytes_per_s", pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, BYTES_PER_MIB),
    ("nvlink_tx_bytes_per_s", pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC, BYTES_PER_MIB),
    ("pcie_rx_bytes_per_s", pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC, BYTES_PER_MIB),
    ("pcie_tx_bytes_per_s", pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC, BYTES_PER_MIB),
)
"""Field, metric, factor to our unit."""

REFUSED = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: (
        "GPM needs a Hopper GPU or a later one, with MIG off",
        "use dcgm-exporter's profiling fields instead: --dcgm URL",
    ),
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: (
        "the NVIDIA driver is too old for GPM",
        "install driver 520 or later",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "this user may not read the GPU's performance counters",
        "set NVreg_RestrictProfilingToAdminUsers=0 for the nvidia kernel module, or run as root",
    ),
    pynvml.NVML_ERROR_IN_USE: (
        "another profiler holds the GPU's performance counters",
        "stop Nsight, or pause DCGM's profiling: dcgmi profile --pause",
    ),
    pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES: (
        "another profiler holds the GPU's performance counters",
        "stop Nsight, or pause DCGM's profiling: dcgmi profile --pause",
    ),
}
"""What a refusal means, and what mends it, by NVML's code."""


class GpmActivity:
    """Reads the activity of the GPUs that the process may use.

    Each reading is the mean since the reading before it; one that comes sooner than 100 ms after it says so and
    leaves the interval open for the next.

    Args:
        nvml: The NVML bindings; a test gives a fake.
        gpus: NVML indices or UUIDs; by default what ``CUDA_VISIBLE_DEVICES`` leaves visible.
        environment: The process environment, ``os.environ`` by default.
        clock: Time for the stamps.

    Raises:
        EnvironmentLacksError: No driver, no GPU, or GPM is not supported or not allowed; says what mends it.
        MeterError: MIG is on, or the GPUs cannot be told for certain.
    """

    def __init__(
        self,
        nvml: Any = pynvml,
        *,
        gpus: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._nvml = nvml
        self._clock = clock or SystemClock()
        self._gpus: list[_GpmGpu] = []
        self._open = True
        opened = open_gpus(nvml, gpus, environment)
        try:
            for gpu in opened:
                self._gpus.append(_GpmGpu(nvml, gpu, self._clock))
        except BaseException:
            self.close()
            raise

    def describe(self) -> ActivityDescription:
        """Return the GPUs."""
        return ActivityDescription(source="gpm", devices=tuple(g.opened.identity.uuid for g in self._gpus))

    def read(self) -> ActivityReading:
        """Read every GPU once.

        Raises:
            MeterError: A GPU was lost.
        """
        watch = Stopwatch(self._clock)
        return watch.stamp(tuple(gpu.read() for gpu in self._gpus))

    def close(self) -> None:
        """Give back the samples and shut NVML down for this reader."""
        if self._open:
            self._open = False
            for gpu in self._gpus:
                gpu.free()
            self._nvml.nvmlShutdown()


class _GpmGpu:
    """One GPU with its two samples: the last one, and the one to be taken next."""

    def __init__(self, nvml: Any, opened: OpenGpu, clock: Clock) -> None:
        self.opened = opened
        self._nvml = nvml
        self._clock = clock
        self._samples: list[Any] = []
        try:
            support = nvml.nvmlGpmQueryDeviceSupport(opened.handle)
            if not support.isSupportedDevice:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            self._samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
            nvml.nvmlGpmSampleGet(opened.handle, self._samples[0])
        except NvmlError as error:
            self.free()
            raise _refused(opened, error) from error
        self._taken_s = clock.monotonic_s()
        self._request = pynvml.c_nvmlGpmMetricsGet_t()
        self._request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        self._request.numMetrics = len(METRICS)
        for slot, (_, metric_id, _) in enumerate(METRICS):
            self._request.metrics[slot].metricId = metric_id

    def read(self) -> DeviceActivity:
        uuid = self.opened.identity.uuid
        interval_s = self._clock.monotonic_s() - self._taken_s
        if interval_s < MIN_INTERVAL_S:
            reason = (
                f"{interval_s * 1e3:.0f} ms since the reading before; the counters need {MIN_INTERVAL_S * 1e3:g} ms"
            )
            return DeviceActivity(device=uuid, missing=dict.fromkeys(QUANTITIES, reason))
        before, after = self._samples
        try:
            self._nvml.nvmlGpmSampleGet(self.opened.handle, after)
            taken_s = self._clock.monotonic_s()
            self._request.sample1, self._request.sample2 = before, after
            self._nvml.nvmlGpmMetricsGet(self._request)
        except NvmlError as error:
            if code_of(error) in ENDING_CODES:
                raise ended(self.opened, error) from error
            return DeviceActivity(device=uuid, missing=dict.fromkeys(QUANTITIES, _reason(code_of(error))))
        self._samples = [after, before]
        interval_s, self._taken_s = taken_s - self._taken_s, taken_s
        values, missing = self._values()
        return DeviceActivity(device=uuid, interval_s=interval_s, missing=missing, **values)

    def _values(self) -> tuple[dict[str, Any], dict[str, str]]:
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for slot, (name, _, factor) in enumerate(METRICS):
            metric = self._request.metrics[slot]
            code, value = metric.nvmlReturn, metric.value
            if code != pynvml.NVML_SUCCESS:
                missing[name] = _reason(code, metric=True)
            elif not math.isfinite(value) or value < 0:
                missing[name] = f"the driver tells {value!r}"
            else:
                # Counters of neighbouring clock domains may make a share a hair more than one.
                values[name] = min(1.0, value * factor) if factor == PERCENT else value * factor
        return values, missing

    def free(self) -> None:
        """Give both samples back to the driver."""
        samples, self._samples = self._samples, []
        for sample in samples:
            self._nvml.nvmlGpmSampleFree(sample)


def _refused(gpu: OpenGpu, error: Exception) -> EnvironmentLacksError:
    what, fix = REFUSED.get(code_of(error), (str(error), "nvidia-smi; see also --dcgm URL"))
    who = f"GPU {gpu.identity.index} ({gpu.identity.name})"
    return EnvironmentLacksError(f"no activity counters of {who}: {what}", fix=fix)


def _reason(code: int, *, metric: bool = False) -> str:
    if metric and code == pynvml.NVML_ERROR_NOT_SUPPORTED:
        return "this GPU does not have it"
    what, _ = REFUSED.get(code, (str(pynvml.NVMLError(code)), ""))
    return what
