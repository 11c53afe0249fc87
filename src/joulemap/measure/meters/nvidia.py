"""NVIDIA GPUs, by NVML: energy counter, powers by scope, clocks, temperatures, utilisation, throttling.

Sources: NVML API reference (units mJ, mW, MHz); that ``nvmlDeviceGetPowerUsage`` is a 1 s average on Ampere
and later except GA100 is said there; the counter's period of 20–100 ms: Z. Yang et al., arXiv 2312.02741.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pynvml

from joulemap.clock import Clock, SystemClock
from joulemap.measure.meters.meter import (
    DeviceKind,
    DeviceReading,
    MeterDescription,
    MeterDevice,
    MeterReading,
    Stopwatch,
)
from joulemap.measure.meters.nvml import ENDING_CODES, NvmlError, OpenGpu, code_of, ended, open_gpus
from joulemap.records import Basis
from joulemap.units import HZ_PER_MHZ, J_PER_MJ, W_PER_MW

COUNTER_PERIOD_S = 0.1
"""The slowest update of the energy counter that was published."""
SLOW_PERIOD_S = 1.0
"""Time between two reads of what is slow to read: on an H200 a read of everything takes 4 ms of CPU."""
QUICK = frozenset({"energy_j", "power_w"})
"""What every read brings anew: energy stands on it."""

FieldId = tuple[int, int]

FIELDS: tuple[tuple[str, FieldId, float], ...] = (
    ("energy_j", (pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, 0), J_PER_MJ),
    ("power_w", (pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_POWER_SCOPE_GPU), W_PER_MW),
    ("power_average_w", (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_POWER_SCOPE_GPU), W_PER_MW),
    ("module_power_w", (pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_POWER_SCOPE_MODULE), W_PER_MW),
    ("memory_power_w", (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_POWER_SCOPE_MEMORY), W_PER_MW),
    ("memory_temperature_c", (pynvml.NVML_FI_DEV_MEMORY_TEMP, 0), 1.0),
)
"""Columns that one call of ``nvmlDeviceGetFieldValues`` brings: name, field and scope, factor to our unit."""

Answers = tuple[dict[str, Any], dict[str, str]]
"""Values by column, and why others are missing."""

THROTTLE_REASONS = {
    pynvml.nvmlClocksEventReasonGpuIdle: "idle",
    pynvml.nvmlClocksEventReasonApplicationsClocksSetting: "clocks_set",
    pynvml.nvmlClocksEventReasonSwPowerCap: "power_cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware_slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync_boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hardware_thermal",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power_brake",
    pynvml.nvmlClocksEventReasonDisplayClockSetting: "display_clock",
}

VALUE_FIELD = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}

Query = Callable[[Any], "float | str | tuple[float, float]"]


class NvidiaMeter:
    """Reads the GPUs that the process may use, mapped by UUID.

    What a GPU does not support is found out once, at the start; ``describe().notes`` says which fallback was
    taken, and every reading carries the reasons of what is missing.

    Args:
        nvml: The NVML bindings; a test gives a fake.
        gpus: NVML indices or UUIDs to measure; by default what ``CUDA_VISIBLE_DEVICES`` leaves visible.
        environment: The process environment, ``os.environ`` by default.
        clock: Time for the stamps.

    Raises:
        EnvironmentLacksError: No driver or no visible GPU.
        MeterError: MIG is on, or CUDA's order cannot be mapped to NVML's for certain.
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
        self._open = True
        opened = open_gpus(nvml, gpus, environment)
        self._gpus = tuple(_ProbedGpu(nvml, gpu) for gpu in opened)

    def describe(self) -> MeterDescription:
        """Return the GPUs and what was found out about them."""
        devices = tuple(
            MeterDevice(
                device=g.opened.identity.uuid,
                kind=DeviceKind.GPU,
                name=g.opened.identity.name,
                index=g.opened.identity.index,
                power_limit_w=g.power_limit_w,
            )
            for g in self._gpus
        )
        counts = all("energy_j" not in g.missing for g in self._gpus)
        return MeterDescription(
            meter="nvidia",
            devices=devices,
            basis=Basis.MEASURED,
            counter_resolution_j=J_PER_MJ if counts else None,
            counter_period_s=COUNTER_PERIOD_S if counts else 0.0,
            notes=tuple(dict.fromkeys(note for g in self._gpus for note in g.notes)),
        )

    def read(self) -> MeterReading:
        """Read energy and power of every GPU; clocks, temperatures and the like are a second old at most.

        Raises:
            MeterError: A GPU was lost, or NVML was shut down.
        """
        now_s = self._clock.monotonic_s()
        # Slow answers first: the stamp is that of energy and power.
        for gpu in self._gpus:
            gpu.refresh(now_s)
        watch = Stopwatch(self._clock)
        return watch.stamp(tuple(gpu.read() for gpu in self._gpus))

    def close(self) -> None:
        """Shut NVML down for this meter."""
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()


class _ProbedGpu:
    """One GPU, with the queries that it answers."""

    def __init__(self, nvml: Any, opened: OpenGpu) -> None:
        self.opened = opened
        self.missing: dict[str, str] = {}
        self.notes: list[str] = []
        self._nvml = nvml
        self._fields: list[tuple[str, FieldId, float]] = []
        self._queries: list[tuple[tuple[str, ...], Query]] = []
        self._slow: Answers = ({}, {})
        self._slow_due_s = float("-inf")
        self._probe_fields()
        self._probe_queries()
        self.power_limit_w = self._power_limit_w()

    def refresh(self, now_s: float) -> None:
        """Read what is slow, if it is due; until then readings carry on its last values and reasons."""
        if now_s >= self._slow_due_s:
            self._slow = self._answers(quick=False)
            self._slow_due_s = now_s + SLOW_PERIOD_S

    def read(self) -> DeviceReading:
        values, missing = self._answers(quick=True)
        return DeviceReading(
            device=self.opened.identity.uuid,
            missing={**self.missing, **self._slow[1], **missing},
            **self._slow[0],
            **values,
        )

    def _answers(self, *, quick: bool) -> Answers:
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        asked = [entry for entry in self._fields if (entry[0] in QUICK) == quick]
        try:
            told = self._field_values([ids for _, ids, _ in asked])
            for (column, _, factor), (value, reason) in zip(asked, told, strict=True):
                if value is None:
                    missing[column] = reason
                else:
                    values[column] = value * factor
        except NvmlError as error:
            missing.update(self._transient([column for column, _, _ in asked], error))
        for columns, query in self._queries:
            if (columns[0] in QUICK) != quick:
                continue
            try:
                answer = query(self.opened.handle)
            except NvmlError as error:
                missing.update(self._transient(columns, error))
                continue
            if len(columns) == 1:
                values[columns[0]] = answer
            else:
                values.update(zip(columns, answer, strict=True))  # type: ignore[arg-type]
        return values, missing

    def _transient(self, columns: Sequence[str], error: Exception) -> dict[str, str]:
        if code_of(error) in ENDING_CODES:
            raise ended(self.opened, error) from error
        return dict.fromkeys(columns, str(error))

    def _field_values(self, ids: Sequence[FieldId]) -> list[tuple[float | None, str]]:
        if not ids:
            return []
        found: list[tuple[float | None, str]] = []
        for answer in self._nvml.nvmlDeviceGetFieldValues(self.opened.handle, ids):
            code = answer.nvmlReturn
            if code == pynvml.NVML_SUCCESS:
                found.append((float(getattr(answer.value, VALUE_FIELD[answer.valueType])), ""))
            elif code in ENDING_CODES:
                raise pynvml.NVMLError(code)
            else:
                found.append((None, str(pynvml.NVMLError(code))))
        return found

    def _probe_fields(self) -> None:
        # One by one: some drivers refuse a whole call for one field or scope that they do not know.
        for column, ids, factor in FIELDS:
            try:
                ((value, reason),) = self._field_values([ids])
            except NvmlError as error:
                value, reason = None, self._transient((column,), error)[column]
            if value is None:
                self.missing[column] = reason
            else:
                self._fields.append((column, ids, factor))

    def _probe_queries(self) -> None:
        nvml, index = self._nvml, self.opened.identity.index
        if "energy_j" in self.missing:
            self._offer(("energy_j",), lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) * J_PER_MJ)
        if "power_w" in self.missing and self._offer(
            ("power_w",), lambda h: nvml.nvmlDeviceGetPowerUsage(h) * W_PER_MW
        ):
            self.notes.append(
                f"GPU {index} gives no instant power; power_w is the driver's reading, on most GPUs a 1 s average"
            )
        if "energy_j" in self.missing:
            self.notes.append(f"GPU {index} has no energy counter; energy is integrated power")
        graphics, memory = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
        self._offer(("sm_clock_hz",), lambda h: nvml.nvmlDeviceGetClockInfo(h, graphics) * HZ_PER_MHZ)
        self._offer(("memory_clock_hz",), lambda h: nvml.nvmlDeviceGetClockInfo(h, memory) * HZ_PER_MHZ)
        sensor = pynvml.NVML_TEMPERATURE_GPU
        # The versioned call is the one that newer drivers keep; older drivers know only the other.
        if not self._offer(("temperature_c",), lambda h: float(nvml.nvmlDeviceGetTemperatureV(h, sensor))):
            self._offer(("temperature_c",), lambda h: float(nvml.nvmlDeviceGetTemperature(h, sensor)))
        self._offer(("utilization", "memory_utilization"), lambda h: _shares(nvml.nvmlDeviceGetUtilizationRates(h)))
        if not self._offer(("throttle",), lambda h: throttle_names(nvml.nvmlDeviceGetCurrentClocksEventReasons(h))):
            self._offer(("throttle",), lambda h: throttle_names(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(h)))

    def _offer(self, columns: tuple[str, ...], query: Query) -> bool:
        """Try a query once; keep it if the GPU answers, else keep the reason."""
        try:
            query(self.opened.handle)
        except NvmlError as error:
            self.missing.update(self._transient(columns, error))
            return False
        self._queries.append((columns, query))
        for column in columns:
            self.missing.pop(column, None)
        return True

    def _power_limit_w(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetEnforcedPowerLimit(self.opened.handle)) * W_PER_MW
        except NvmlError:
            return None


def _shares(rates: Any) -> tuple[float, float]:
    return rates.gpu / 100.0, rates.memory / 100.0


@lru_cache(maxsize=256)
def throttle_names(mask: int) -> str:
    """Return what holds the clocks down, by NVML's bit mask; a bit that is not known is named by its value.

    >>> throttle_names(0x4 | 0x20)
    'power_cap+thermal'
    """
    bits = [1 << i for i in range(mask.bit_length()) if mask >> i & 1]
    return "+".join(THROTTLE_REASONS.get(bit, f"reason_{bit:#x}") for bit in bits)
