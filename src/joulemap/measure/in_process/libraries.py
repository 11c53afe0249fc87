"""PyTorch and the libraries on it: optional, heavy, and imported only here."""

from __future__ import annotations

import importlib
import os
from typing import Any

from joulemap.errors import EnvironmentLacksError, MissingExtraError


def load(module: str, *, extra: str, needed_for: str) -> Any:
    """Import an optional library.

    Raises:
        MissingExtraError: It is not installed.
        EnvironmentLacksError: It is installed, but cannot be imported.
    """
    # Neither progress bars nor look-ups in the network belong to a measurement.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise MissingExtraError(extra, needed_for, module) from error
        msg = f"{module} is installed but cannot be imported: {error}"
        raise EnvironmentLacksError(msg, fix=f"pip install --upgrade {module}") from error


def device_of(torch: Any, wanted: str | None) -> Any:
    """Return the device to run on: the one that was named, else the GPU if there is one, else the CPU."""
    device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and device.index is None:
        # Some calls of CUDA take no device without an index.
        return torch.device("cuda", torch.cuda.current_device())
    return device


def gpu_uuid(torch: Any, device: Any) -> str | None:
    """Return the UUID under which NVML knows a CUDA device, ``None`` for a CPU."""
    if device.type != "cuda":
        return None
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
