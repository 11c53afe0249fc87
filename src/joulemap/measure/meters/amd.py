"""AMD GPUs, by AMD's own bindings (``amdsmi``): energy accumulator, socket power, clocks, temperature, use.

Source: AMD SMI library reference (accumulator × ``counter_resolution`` in µJ, power in W, clocks in MHz).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joulemap.clock import Clock, SystemClock
from joulemap.errors import EnvironmentLacksError, MeterError, MissingExtraError
from joulemap.measure.meters.meter import (
    DeviceKind,
    DeviceReading,
    MeterDescription,
    MeterDevice,
    MeterReading,
    Stopwatch,
)
from joulemap.measure.meters.visible_devices import GpuIdentity, select_gpus
from joulemap.records import Basis
from joulemap.units import HZ_PER_MHZ, J_PER_UJ

COUNTER_RESOLUTION_J = 15.3e-6
"""One step of the accumulator on Instinct GPUs; each read tells its own."""
COUNTER_PERIOD_S = 0.01
WHOLE_GPU = "SPX"
"""The compute partition in which a socket is one GPU."""
HIDING = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


@dataclass(slots=True)
class _Gpu:
    identity: GpuIdentity
    handle: Any
    missing: dict[str, str] = field(default_factory=dict)


class AmdMeter:
    """Reads AMD GPUs; a GPU split into partitions is refused, for each part repeats the whole socket's power.

    Args:
        smi: The bindings, ``amdsmi`` by default; a test gives a fake.
        gpus: Indices or UUIDs to measure; by default what ``HIP_VISIBLE_DEVICES`` leaves visible.
        environment: The process environment, ``os.environ`` by default.
        clock: Time for the stamps.

    Raises:
        MissingExtraError: ``amdsmi`` is not installed.
        EnvironmentLacksError: No ROCm driver, or no GPU.
        MeterError: A GPU is partitioned, or the visible GPUs cannot be told for certain.
    """

    def __init__(
        self,
        smi: Any = None,
        *,
        gpus: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._smi = smi if smi is not None else load_amdsmi()
        self._clock = clock or SystemClock()
        self._open = True
        try:
            self._smi.amdsmi_init()
        except self._smi.AmdSmiException as error:
            msg = f"AMD SMI does not start: {_plain(error)}"
            raise EnvironmentLacksError(msg, fix="sudo modprobe amdgpu; rocm-smi") from error
        try:
            self._gpus = self._find(gpus, os.environ if environment is None else environment)
        except BaseException:
            self.close()
            raise

    def describe(self) -> MeterDescription:
        """Return the GPUs."""
        devices = tuple(
            MeterDevice(device=g.identity.uuid, kind=DeviceKind.GPU, name=g.identity.name, index=g.identity.index)
            for g in self._gpus
        )
        return MeterDescription(
            meter="amd",
            devices=devices,
            basis=Basis.MEASURED,
            counter_resolution_j=COUNTER_RESOLUTION_J,
            counter_period_s=COUNTER_PERIOD_S,
            notes=("on MI200 the second half of a package repeats or lacks the package's power",)
            if any("MI2" in g.identity.name for g in self._gpus)
            else (),
        )

    def read(self) -> MeterReading:
        """Read every GPU once.

        Raises:
            MeterError: A GPU tells neither energy nor power any more.
        """
        watch = Stopwatch(self._clock)
        return watch.stamp(tuple(self._read_gpu(gpu) for gpu in self._gpus))

    def close(self) -> None:
        """Shut AMD SMI down for this meter."""
        if self._open:
            self._open = False
            self._smi.amdsmi_shut_down()

    def _read_gpu(self, gpu: _Gpu) -> DeviceReading:
        smi, handle = self._smi, gpu.handle
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}

        def ask(columns: Sequence[str], query: Callable[[], Sequence[float]]) -> None:
            try:
                values.update(zip(columns, query(), strict=True))
            except smi.AmdSmiException as error:
                missing.update(dict.fromkeys(columns, _plain(error)))
            except (KeyError, TypeError, ValueError):
                missing.update(dict.fromkeys(columns, "the GPU answers N/A"))

        ask(("energy_j",), lambda: [_energy_j(smi.amdsmi_get_energy_count(handle))])
        ask(("power_w",), lambda: [_power_w(smi.amdsmi_get_power_info(handle))])
        clocks = smi.AmdSmiClkType
        ask(("sm_clock_hz",), lambda: [_clock_hz(smi.amdsmi_get_clock_info(handle, clocks.GFX))])
        ask(("memory_clock_hz",), lambda: [_clock_hz(smi.amdsmi_get_clock_info(handle, clocks.MEM))])
        now, sensors = smi.AmdSmiTemperatureMetric.CURRENT, smi.AmdSmiTemperatureType
        ask(("temperature_c",), lambda: [float(smi.amdsmi_get_temp_metric(handle, sensors.HOTSPOT, now))])
        ask(("memory_temperature_c",), lambda: [float(smi.amdsmi_get_temp_metric(handle, sensors.VRAM, now))])
        ask(("utilization", "memory_utilization"), lambda: _shares(smi.amdsmi_get_gpu_activity(handle)))
        if "energy_j" not in values and "power_w" not in values:
            msg = f"GPU {gpu.identity.index} ({gpu.identity.uuid}) stopped answering: {missing['power_w']}"
            raise MeterError(msg, fix="amd-smi monitor")
        return DeviceReading(device=gpu.identity.uuid, missing=missing, **values)

    def _find(self, wanted: Sequence[str] | None, environment: Mapping[str, str]) -> tuple[_Gpu, ...]:
        smi = self._smi
        try:
            found = []
            for index, handle in enumerate(smi.amdsmi_get_processor_handles()):
                name = smi.amdsmi_get_gpu_asic_info(handle)["market_name"]
                uuid = f"GPU-{smi.amdsmi_get_gpu_device_uuid(handle)}"
                found.append(_Gpu(identity=GpuIdentity(index=index, uuid=uuid, name=name), handle=handle))
        except smi.AmdSmiException as error:
            msg = f"AMD SMI cannot list the GPUs: {_plain(error)}"
            raise EnvironmentLacksError(
                msg, fix="sudo usermod -aG render,video $USER, then log in again"
            ) from error
        if not found:
            msg = "the AMD driver sees no GPU"
            raise EnvironmentLacksError(msg, fix="rocm-smi")
        hidden = next((v for v in HIDING if environment.get(v) is not None), None)
        if wanted is None and hidden is not None and len(found) > 1:
            # HIP counts in its own order and ROCR in another: a guess might measure a neighbour's GPU.
            msg = f"{hidden}={environment[hidden]} counts in an order that AMD SMI does not share"
            raise MeterError(msg, fix="name the GPUs to measure by AMD SMI's index or UUID: --gpus 0,1")
        chosen = select_gpus([g.identity for g in found], wanted=wanted, environment={})
        gpus = tuple(next(g for g in found if g.identity == identity) for identity in chosen)
        for gpu in gpus:
            self._refuse_partition(gpu)
        return gpus

    def _refuse_partition(self, gpu: _Gpu) -> None:
        try:
            partition = self._smi.amdsmi_get_gpu_compute_partition(gpu.handle)
        except self._smi.AmdSmiException:
            return  # a GPU that knows no partitions
        if partition and partition != WHOLE_GPU:
            msg = f"GPU {gpu.identity.index} is partitioned ({partition}): every part repeats the socket's power"
            raise MeterError(
                msg, fix=f"sudo amd-smi set --gpu {gpu.identity.index} --compute-partition {WHOLE_GPU}"
            )


def load_amdsmi() -> Any:
    """Import the bindings.

    Raises:
        MissingExtraError: They are not installed.
        EnvironmentLacksError: They are, but ROCm's library is not.
    """
    try:
        import amdsmi
    except ModuleNotFoundError as error:
        raise MissingExtraError(extra="amd", needed_for="the AMD meter", module="amdsmi") from error
    except (KeyError, OSError, AttributeError) as error:
        # Without libamd_smi.so the bindings fail while they are imported, with whatever they stumble over.
        msg = "amdsmi is installed, but ROCm's library libamd_smi.so is not"
        raise EnvironmentLacksError(msg, fix="install ROCm (package amd-smi-lib)") from error
    return amdsmi


def _plain(error: Exception) -> str:
    return str(getattr(error, "err_info", None) or error or type(error).__name__)


def _energy_j(told: Mapping[str, Any]) -> float:
    # The accumulator was called "power" in older bindings.
    steps = told.get("energy_accumulator", told.get("power"))
    return float(steps) * float(told["counter_resolution"]) * J_PER_UJ


def _power_w(told: Mapping[str, Any]) -> float:
    # MI300 and later tell the current power, MI200 only an average; the other of the two is "N/A".
    for name in ("current_socket_power", "average_socket_power", "socket_power"):
        value = told.get(name)
        if isinstance(value, int | float) and value > 0:
            return float(value)
    raise ValueError


def _clock_hz(told: Mapping[str, Any]) -> float:
    return float(told["clk"]) * HZ_PER_MHZ


def _shares(told: Mapping[str, Any]) -> tuple[float, float]:
    return float(told["gfx_activity"]) / 100.0, float(told["umc_activity"]) / 100.0
