"""Opening NVML: the errors it gives, explained, and the GPUs that a process may use, MIG refused.

Source: NVIDIA Management Library API reference; the bindings are NVIDIA's own (``nvidia-ml-py``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pynvml

from joulemap.errors import EnvironmentLacksError, JoulemapError, MeterError
from joulemap.measure.meters.visible_devices import GpuIdentity, select_gpus

NvmlError: type[Exception] = pynvml.NVMLError

ENDING_CODES = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
"""Codes after which a GPU will not answer again in this process."""

ABSENT = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "no NVIDIA driver: libnvidia-ml.so.1 was not found",
        "install the NVIDIA driver; in a container, start it with --gpus all",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "the NVIDIA driver is installed but not loaded",
        "sudo modprobe nvidia",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "NVML and the loaded NVIDIA kernel module are of different versions",
        "reboot, or reload the module: sudo rmmod nvidia_uvm nvidia && sudo modprobe nvidia",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "this user may not talk to the NVIDIA driver",
        "sudo usermod -aG video,render $USER, then log in again",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGpu:
    """A GPU that was opened for measuring."""

    identity: GpuIdentity
    handle: Any
    """NVML's own handle."""


def start_nvml(nvml: Any) -> None:
    """Initialise NVML; each success needs its own ``nvmlShutdown``.

    Raises:
        EnvironmentLacksError: There is no usable NVIDIA driver; says why and what mends it.
    """
    try:
        nvml.nvmlInit()
    except NvmlError as error:
        what, fix = ABSENT.get(code_of(error), (f"NVML does not start: {error}", "nvidia-smi"))
        raise EnvironmentLacksError(what, fix=fix) from error


def code_of(error: Exception) -> int:
    """Return NVML's code of an error."""
    return int(getattr(error, "value", pynvml.NVML_ERROR_UNKNOWN))


def ended(gpu: OpenGpu, error: Exception) -> MeterError:
    """Return the error of a GPU that has stopped answering."""
    who = f"GPU {gpu.identity.index} ({gpu.identity.uuid})"
    return MeterError(f"{who} stopped answering: {error}", fix="nvidia-smi; dmesg | grep -i xid")


def open_gpus(
    nvml: Any, wanted: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> tuple[OpenGpu, ...]:
    """Start NVML and return the GPUs to measure.

    Args:
        nvml: The NVML bindings, real or fake.
        wanted: NVML indices or UUIDs; by default what ``CUDA_VISIBLE_DEVICES`` leaves visible.
        environment: The process environment, ``os.environ`` by default.

    Raises:
        EnvironmentLacksError: No driver, or no GPU is visible.
        MeterError: MIG is on, or the mapping from CUDA's to NVML's order is doubtful.
        UsageError: A GPU was named that does not exist.
    """
    start_nvml(nvml)
    try:
        handles = {}
        identities = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            identities.append(GpuIdentity(index=index, uuid=uuid, name=_text(nvml.nvmlDeviceGetName(handle))))
            handles[uuid] = handle
        env = os.environ if environment is None else environment
        chosen = select_gpus(identities, wanted=wanted, environment=env)
        if not chosen:
            raise _no_gpu(len(identities), env)
        gpus = tuple(OpenGpu(identity=g, handle=handles[g.uuid]) for g in chosen)
        for gpu in gpus:
            _refuse_mig(nvml, gpu)
    except NvmlError as error:
        nvml.nvmlShutdown()
        msg = f"NVML cannot list the GPUs: {error}"
        raise EnvironmentLacksError(msg, fix="nvidia-smi -L") from error
    except JoulemapError:
        nvml.nvmlShutdown()
        raise
    return gpus


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _no_gpu(present: int, environment: Mapping[str, str]) -> EnvironmentLacksError:
    if not present:
        return EnvironmentLacksError("the NVIDIA driver sees no GPU", fix="nvidia-smi -L")
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    return EnvironmentLacksError(
        f"CUDA_VISIBLE_DEVICES={visible!r} hides all {present} GPUs", fix="unset CUDA_VISIBLE_DEVICES"
    )


def _refuse_mig(nvml: Any, gpu: OpenGpu) -> None:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(gpu.handle)
    except NvmlError:
        return  # a GPU that knows no MIG
    if current == pynvml.NVML_DEVICE_MIG_ENABLE:
        index = gpu.identity.index
        msg = f"GPU {index} ({gpu.identity.name}) has MIG on: all its slices report the power of the whole GPU"
        raise MeterError(msg, fix=f"sudo nvidia-smi -i {index} -mig 0, or measure another GPU")
