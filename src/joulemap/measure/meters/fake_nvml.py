"""A fake of the NVML bindings for tests and rehearsals: as many GPUs as wanted, any power profile, any fault.

Constants, structures and errors are those of the real bindings; only the hardware behind them is made up.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pynvml

from joulemap.clock import Clock, SystemClock
from joulemap.units import J_PER_MJ, W_PER_MW

PowerProfile = Callable[[int, float], float]
"""Power in W of a GPU (its index) at a time in s."""

GPM_TRUTH = {
    pynvml.NVML_GPM_METRIC_SM_UTIL: 90.0,
    pynvml.NVML_GPM_METRIC_SM_OCCUPANCY: 25.0,
    pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL: 12.5,
    pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL: 62.5,
    pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC: 512.0,
    pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC: 1024.0,
    pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC: 2048.0,
    pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC: 4096.0,
}
"""GPM metrics of every fake GPU: percent, and MiB/s."""
FINEST_PIECES = 20
"""Into how many pieces the fake counter divides the time since it was last read, at most."""


class Utilization(NamedTuple):
    """What ``nvmlDeviceGetUtilizationRates`` gives, in percent."""

    gpu: int
    memory: int


@dataclass
class FakeGpu:
    """One fake GPU; the fields may be changed at any time."""

    index: int
    name: str = "NVIDIA H100 80GB HBM3"
    mig: bool = False
    lost: bool = False
    """Answers no call any more."""
    stuck_energy_j: float | None = None
    """The counter stands at this value."""
    energy_offset_j: float = 0.0
    temperature_c: int = 45
    throttle_mask: int = 0
    power_limit_w: float = 700.0
    unsupported: set[str | int | tuple[int, int]] = field(default_factory=set)
    """Functions by name, fields by id or by ``(id, scope)``, that this GPU does not support."""
    failing: dict[str, int] = field(default_factory=dict)
    """NVML error codes by function name, for faults that may pass."""
    strict_fields: bool = False
    """A field or scope that is not known fails the whole call, as with some drivers."""
    gpm: dict[int, float] = field(default_factory=lambda: dict(GPM_TRUTH))

    @property
    def uuid(self) -> str:
        """The GPU's UUID, made from its index."""
        return f"GPU-{self.index:08x}-0000-4000-8000-{self.index:012x}"


@dataclass
class _GpmSample:
    gpu: FakeGpu | None = None
    taken_s: float = 0.0


class FakeNvml:
    """Stands in for the module ``pynvml``; every name that it does not fake is the real one's.

    Args:
        gpus: How many GPUs, or the GPUs.
        power: Power of each GPU over time; 300 W by default.
        clock: The time at which the fake hardware lives.
        counter_period_s: How often the energy counter moves.
    """

    def __init__(
        self,
        gpus: int | list[FakeGpu] = 8,
        *,
        power: PowerProfile | None = None,
        clock: Clock | None = None,
        counter_period_s: float = 0.02,
    ) -> None:
        self.gpus = [FakeGpu(index=i) for i in range(gpus)] if isinstance(gpus, int) else gpus
        self.power = power or (lambda _index, _time_s: 300.0)
        self.clock = clock or SystemClock()
        self.counter_period_s = counter_period_s
        self.initialised = 0
        self.calls: Counter[str] = Counter()
        """How often each function was asked of a GPU."""
        self.absent_code: int | None = None
        """The code with which ``nvmlInit`` fails."""
        self._energy = [(self.clock.monotonic_s(), 0.0) for _ in self.gpus]
        self._samples: dict[int, _GpmSample] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("nvmlDevice", "nvmlGpm")):
            raise AttributeError(name)  # a call that is not faked must not reach a real driver
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names, here and below
        """Start, or fail with ``absent_code``."""
        if self.absent_code is not None:
            raise pynvml.NVMLError(self.absent_code)
        self.initialised += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        """End one start."""
        if not self.initialised:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        self.initialised -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        """Return a version."""
        return "580.00"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return the number of GPUs."""
        if not self.initialised:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        """Return a GPU: the fake's handles are the GPUs themselves."""
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:  # noqa: N802
        """Return the UUID."""
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:  # noqa: N802
        """Return the name."""
        return gpu.name

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:  # noqa: N802
        """Return current and pending MIG mode."""
        self._check(gpu, "nvmlDeviceGetMigMode")
        return [int(gpu.mig), int(gpu.mig)]

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> int:  # noqa: N802
        """Return the power cap in mW."""
        self._check(gpu, "nvmlDeviceGetEnforcedPowerLimit")
        return round(gpu.power_limit_w / W_PER_MW)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:  # noqa: N802
        """Return the energy counter in mJ."""
        self._check(gpu, "nvmlDeviceGetTotalEnergyConsumption")
        return round(self._energy_j(gpu) / J_PER_MJ)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:  # noqa: N802
        """Return power in mW."""
        self._check(gpu, "nvmlDeviceGetPowerUsage")
        return round(self.power(gpu.index, self.clock.monotonic_s()) / W_PER_MW)

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> int:  # noqa: N802
        """Return a clock in MHz."""
        self._check(gpu, "nvmlDeviceGetClockInfo")
        return 2619 if kind == pynvml.NVML_CLOCK_MEM else 1980

    def nvmlDeviceGetTemperatureV(self, gpu: FakeGpu, _sensor: int) -> int:  # noqa: N802
        """Return the temperature in °C."""
        self._check(gpu, "nvmlDeviceGetTemperatureV")
        return gpu.temperature_c

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, _sensor: int) -> int:  # noqa: N802
        """Return the temperature in °C, as older drivers do."""
        self._check(gpu, "nvmlDeviceGetTemperature")
        return gpu.temperature_c

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Utilization:  # noqa: N802
        """Return utilisation in percent."""
        self._check(gpu, "nvmlDeviceGetUtilizationRates")
        return Utilization(gpu=97, memory=54)

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu) -> int:  # noqa: N802
        """Return what holds the clocks down."""
        self._check(gpu, "nvmlDeviceGetCurrentClocksEventReasons")
        return gpu.throttle_mask

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: FakeGpu) -> int:  # noqa: N802
        """Return what holds the clocks down, as older drivers do."""
        self._check(gpu, "nvmlDeviceGetCurrentClocksThrottleReasons")
        return gpu.throttle_mask

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, ids: list[tuple[int, int]]) -> Any:  # noqa: N802
        """Return an array of the real structure ``c_nvmlFieldValue_t``, each with its own return code."""
        self._check(gpu, "nvmlDeviceGetFieldValues")
        values = (pynvml.c_nvmlFieldValue_t * len(ids))()
        for value, (field_id, scope) in zip(values, ids, strict=True):
            value.fieldId, value.scopeId = field_id, scope
            if field_id in gpu.unsupported or (field_id, scope) in gpu.unsupported:
                value.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
            elif scope == pynvml.NVML_POWER_SCOPE_MODULE:
                if gpu.strict_fields:
                    raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
                value.nvmlReturn = pynvml.NVML_ERROR_INVALID_ARGUMENT  # only superchips have a module
            else:
                self._fill(gpu, value, field_id, scope)
        return values

    def _fill(self, gpu: FakeGpu, value: Any, field_id: int, scope: int) -> None:
        power_w = self.power(gpu.index, self.clock.monotonic_s())
        if field_id == pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
            value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
            value.value.ullVal = round(self._energy_j(gpu) / J_PER_MJ)
        elif field_id == pynvml.NVML_FI_DEV_MEMORY_TEMP:
            value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
            value.value.uiVal = gpu.temperature_c + 10
        else:
            share = 0.2 if scope == pynvml.NVML_POWER_SCOPE_MEMORY else 1.0
            value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
            value.value.uiVal = round(power_w * share / W_PER_MW)

    def _energy_j(self, gpu: FakeGpu) -> float:
        if gpu.stuck_energy_j is not None:
            return gpu.stuck_energy_j
        position = self.gpus.index(gpu)
        since_s, energy_j = self._energy[position]
        now_s = self.clock.monotonic_s()
        if now_s - since_s >= self.counter_period_s:
            pieces = min(FINEST_PIECES, max(1, round((now_s - since_s) / self.counter_period_s)))
            piece_s = (now_s - since_s) / pieces
            energy_j += piece_s * sum(self.power(gpu.index, since_s + (i + 0.5) * piece_s) for i in range(pieces))
            self._energy[position] = (now_s, energy_j)
        return energy_j + gpu.energy_offset_j

    def reset_counter(self, index: int) -> None:
        """Set a GPU's energy counter to zero, as reloading the driver does."""
        self._energy[index] = (self.clock.monotonic_s(), 0.0)

    def nvmlGpmQueryDeviceSupport(self, gpu: FakeGpu) -> Any:  # noqa: N802
        """Return the real structure that says whether GPM is supported."""
        self._check(gpu, "nvmlGpmQueryDeviceSupport")
        support = pynvml.c_nvmlGpmSupport_t()
        support.isSupportedDevice = int("gpm" not in gpu.unsupported)
        return support

    def nvmlGpmSampleAlloc(self) -> Any:  # noqa: N802
        """Return a pointer of the real type, distinct for each sample."""
        buffer = ctypes.create_string_buffer(8)
        sample = ctypes.cast(buffer, pynvml.c_nvmlGpmSample_t)
        self._samples[_address(sample)] = _GpmSample()
        sample._keep = buffer  # the address must stay alive with its pointer
        return sample

    def nvmlGpmSampleGet(self, gpu: FakeGpu, sample: Any) -> Any:  # noqa: N802
        """Take a sample."""
        self._check(gpu, "nvmlGpmSampleGet")
        self._samples[_address(sample)] = _GpmSample(gpu=gpu, taken_s=self.clock.monotonic_s())
        return sample

    def nvmlGpmMetricsGet(self, request: Any) -> Any:  # noqa: N802
        """Fill the real request structure from its two samples, as the driver does."""
        first, second = (self._samples[_address(s)] for s in (request.sample1, request.sample2))
        if request.version != pynvml.NVML_GPM_METRICS_GET_VERSION:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        if first.gpu is None or first.gpu is not second.gpu or second.taken_s <= first.taken_s:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        for i in range(request.numMetrics):
            metric = request.metrics[i]
            if metric.metricId in second.gpu.gpm:
                metric.nvmlReturn = pynvml.NVML_SUCCESS
                metric.value = second.gpu.gpm[metric.metricId]
            else:
                metric.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
        return request

    def nvmlGpmSampleFree(self, sample: Any) -> None:  # noqa: N802
        """Give a sample back; a second time is an error, as with the driver."""
        if self._samples.pop(_address(sample), None) is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)

    @property
    def live_gpm_samples(self) -> int:
        """Samples allocated and not yet given back."""
        return len(self._samples)

    def _check(self, gpu: FakeGpu, function: str) -> None:
        self.calls[function] += 1
        if gpu.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if function in gpu.unsupported:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if function in gpu.failing:
            raise pynvml.NVMLError(gpu.failing[function])


def _address(sample: Any) -> int:
    return ctypes.cast(sample, ctypes.c_void_p).value or 0
