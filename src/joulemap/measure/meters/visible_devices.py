"""Which GPUs a process may use: ``CUDA_VISIBLE_DEVICES`` in all its forms, mapped to UUIDs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from joulemap.errors import MeterError, UnknownNameError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuIdentity:
    """What names a GPU."""

    index: int
    """NVML's index, in the order of PCI bus ids."""
    uuid: str
    name: str


def select_gpus(
    gpus: Sequence[GpuIdentity], *, wanted: Sequence[str] | None, environment: Mapping[str, str]
) -> tuple[GpuIdentity, ...]:
    """Return the GPUs to measure, in the order in which they were named.

    Args:
        gpus: All GPUs of the machine.
        wanted: NVML indices or UUIDs (or their beginnings) that the user named; these win.
        environment: The process environment; ``CUDA_VISIBLE_DEVICES`` and ``CUDA_DEVICE_ORDER`` count.

    Raises:
        UsageError: A name that means nothing, or one GPU named twice.
        MeterError: A MIG slice was named, or an ordinal that cannot be mapped to an NVML index for certain.
    """
    if wanted is not None:
        return _by_names(gpus, [w.strip() for w in wanted], from_environment=False)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(gpus)
    names = [part.strip() for part in visible.split(",")] if visible.strip() else []
    if any(n.isdigit() for n in names):
        _refuse_doubtful_order(gpus, visible, environment)
    return _by_names(gpus, names, from_environment=True)


def _by_names(
    gpus: Sequence[GpuIdentity], names: Sequence[str], *, from_environment: bool
) -> tuple[GpuIdentity, ...]:
    chosen: list[GpuIdentity] = []
    for name in names:
        gpu = _find(gpus, name)
        if gpu is None:
            if from_environment:
                break  # CUDA itself sees only what stands before the first invalid entry
            known = [*(str(g.index) for g in gpus), *(g.uuid for g in gpus)]
            raise UnknownNameError(kind="GPU", name=name, known=known)
        if gpu in chosen:
            msg = f"GPU {gpu.index} ({gpu.uuid}) is named twice: {','.join(names)}"
            raise UsageError(msg, fix="name each GPU once")
        chosen.append(gpu)
    return tuple(chosen)


def _find(gpus: Sequence[GpuIdentity], name: str) -> GpuIdentity | None:
    if name.upper().startswith("MIG-"):
        msg = f"{name} is a MIG slice: a slice has no power sensor of its own, it repeats the whole GPU's"
        raise MeterError(msg, fix="measure a whole GPU with MIG off: sudo nvidia-smi -i INDEX -mig 0")
    if name.isdigit():
        return next((g for g in gpus if g.index == int(name)), None)
    if not name.upper().startswith("GPU-"):
        return None
    matches = [g for g in gpus if g.uuid.lower().startswith(name.lower())]
    if len(matches) > 1:
        msg = f"{name} is the beginning of {len(matches)} UUIDs: {', '.join(g.uuid for g in matches)}"
        raise UsageError(msg, fix="write more of the UUID (nvidia-smi -L lists them)")
    return matches[0] if matches else None


def _refuse_doubtful_order(gpus: Sequence[GpuIdentity], visible: str, environment: Mapping[str, str]) -> None:
    by_bus = environment.get("CUDA_DEVICE_ORDER", "").strip().upper() == "PCI_BUS_ID"
    if by_bus or len({g.name for g in gpus}) <= 1:
        return
    msg = (
        f"CUDA_VISIBLE_DEVICES={visible} counts in CUDA's order (fastest first), NVML counts by PCI bus, and "
        "the GPUs here differ: another GPU might be measured"
    )
    raise MeterError(msg, fix="export CUDA_DEVICE_ORDER=PCI_BUS_ID, or name UUIDs (nvidia-smi -L lists them)")
