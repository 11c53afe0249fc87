"""Which device's energy is that of work in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from joulemap.measure.in_process.libraries import device_of, gpu_uuid
from joulemap.measure.meters.meter import DeviceKind
from joulemap.measure.session.opening import MeterRequest


def narrowed(torch: Any, device_name: str | None, request: MeterRequest) -> MeterRequest:
    """Return a request for meters, narrowed to the device that PyTorch will use."""
    device = device_of(torch, device_name)
    uuid = gpu_uuid(torch, device)
    if uuid is None:
        return replace(request, work_kind=DeviceKind.CPU)
    # A single GPU is the one that is visible; only among several must it be told which.
    if request.options.gpus is not None or request.names or torch.cuda.device_count() == 1:
        return replace(request, work_kind=DeviceKind.GPU)
    return replace(request, work_kind=DeviceKind.GPU, options=replace(request.options, gpus=(uuid,)))
