"""NVIDIA GPUs, by NVML: energy counter, powers by scope, clocks, temperatures, utilisation, throttling.

The energy counter is what costs: on an H100 (driver 580.159.04) each read of it, by field value or by its own call,
took 3.9 ms of CPU, and every other call 1 to 4 µs. So the counter is read about once a second, all else every time.

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
POWER_AVERAGED_S = 1.0
"""What the driver averages power over where it gives no instant power."""
COUNTER_EVERY_S = 0.95
"""Least time between two reads of the energy counter: just under 1 s, so that a sampler of 1 Hz always has it."""
NOT_DUE = "the energy counter is slow to read, so it is read about once a second"

FieldId = tuple[int, int]

ENERGY_FIELD: FieldId = (pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, 0)
FIELDS: tuple[tuple[str, FieldId, float], ...] = (
    ("power_w", (pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_POWER_SCOPE_GPU), W_PER_MW),
    ("power_average_w", (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_POWER_SCOPE_GPU), W_PER_MW),
    ("module_power_w", (pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_POWER_SCOPE_MODULE), W_PER_MW),
    ("memory_power_w", (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_POWER_SCOPE_MEMORY), W_PER_MW),
    ("memory_temperature_c", (pynvml.NVML_FI_DEV_MEMORY_TEMP, 0), 1.0),
)
"""Columns that one call of ``nvmlDeviceGetFieldValues`` brings: name, field and scope, factor to our unit."""

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
        self._counter_due_s = float("-inf")
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
            power_delay_s=max(g.power_delay_s for g in self._gpus),
            notes=tuple(dict.fromkeys(note for g in self._gpus for note in g.notes)),
        )

    def read(self) -> MeterReading:
        """Read every GPU; the energy counters only if the last time was about a second ago.

        Raises:
            MeterError: A GPU was lost, or NVML was shut down.
        """
        watch = Stopwatch(self._clock)
        now_s = self._clock.monotonic_s()
        due = now_s >= self._counter_due_s
        if due:
            self._counter_due_s = now_s + COUNTER_EVERY_S
        return watch.stamp(tuple(gpu.read(counter=due) for gpu in self._gpus))

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
        self._counter: Query | None = None
        self.power_delay_s = COUNTER_PERIOD_S
        self._probe_fields()
        self._probe_queries()
        self.power_limit_w = self._power_limit_w()

    def read(self, *, counter: bool) -> DeviceReading:
        """Read everything, the energy counter only if wanted."""
        values: dict[str, Any] = {}
        missing = dict(self.missing)
        try:
            told = self._field_values([ids for _, ids, _ in self._fields])
            for (column, _, factor), (value, reason) in zip(self._fields, told, strict=True):
                if value is None:
                    missing[column] = reason
                else:
                    values[column] = value * factor
        except NvmlError as error:
            missing.update(self._transient([column for column, _, _ in self._fields], error))
        queries = self._queries
        if self._counter is not None and counter:
            queries = [(("energy_j",), self._counter), *queries]
        elif self._counter is not None:
            missing["energy_j"] = NOT_DUE
        for columns, query in queries:
            try:
                answer = query(self.opened.handle)
            except NvmlError as error:
                missing.update(self._transient(columns, error))
                continue
            if len(columns) == 1:
                values[columns[0]] = answer
            else:
                values.update(zip(columns, answer, strict=True))  # type: ignore[arg-type]
        return DeviceReading(device=self.opened.identity.uuid, missing=missing, **values)

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
                self._field_value(ids)
            except NvmlError as error:
                self.missing.update(self._transient((column,), error))
            else:
                self._fields.append((column, ids, factor))

    def _field_value(self, ids: FieldId) -> float:
        """Return one field.

        Raises:
            NVMLError: The GPU does not tell it.
        """
        (answer,) = self._nvml.nvmlDeviceGetFieldValues(self.opened.handle, [ids])
        if answer.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(answer.nvmlReturn)
        return float(getattr(answer.value, VALUE_FIELD[answer.valueType]))

    def _probe_queries(self) -> None:
        nvml, index = self._nvml, self.opened.identity.index
        for counter in (
            lambda _h: self._field_value(ENERGY_FIELD) * J_PER_MJ,
            lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) * J_PER_MJ,
        ):
            if self._answers(("energy_j",), counter):
                self._counter = counter
                break
        else:
            self.notes.append(f"GPU {index} has no energy counter; energy is integrated power")
        if "power_w" in self.missing and self._offer(
            ("power_w",), lambda h: nvml.nvmlDeviceGetPowerUsage(h) * W_PER_MW
        ):
            self.power_delay_s = POWER_AVERAGED_S
            self.notes.append(
                f"GPU {index} gives no instant power; power_w is the driver's reading, on most GPUs a 1 s average"
            )
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
        if not self._answers(columns, query):
            return False
        self._queries.append((columns, query))
        return True

    def _answers(self, columns: tuple[str, ...], query: Query) -> bool:
        """Return whether the GPU answers a query; if not, keep the reason."""
        try:
            query(self.opened.handle)
        except NvmlError as error:
            self.missing.update(self._transient(columns, error))
            return False
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
