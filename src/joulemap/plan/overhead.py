"""What a facility draws beside its GPUs: servers, and cooling and distribution (PUE)."""

from __future__ import annotations

from dataclasses import dataclass

from joulemap.catalog import Catalog
from joulemap.errors import UsageError
from joulemap.records import Basis, Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPower:
    """Power of a server's other parts (processors, memory, fans, network, conversion) for each of its GPUs."""

    per_gpu: Quantity
    source: str


def server_power(catalog: Catalog, gpu_model: str) -> ServerPower:
    """Return what a server draws beside each GPU under load.

    The measured figure where the catalog has one; else the upper bound that the server's rated power leaves
    beside its GPUs at TDP, which errs on the safe side of a cap.

    Raises:
        UsageError: The catalog has no server with such GPUs.
    """
    servers = [s for s in catalog.servers.values() if s.gpu == catalog.gpu(gpu_model).id]
    if not servers:
        msg = f"the catalog has no server with {gpu_model}: what one draws beside its GPUs is not known"
        raise UsageError(msg, fix="give server_power_w (watts beside each GPU) in the pool")
    server = servers[0]
    if server.host_power_w is not None:
        value = server.host_power_w / server.num_gpus
        source = server.sources.get("host_power_w", server.sources[""])
        note = f"{server.name}: {source.title}"
        return ServerPower(
            per_gpu=Quantity(value=value, unit="W/GPU", basis=Basis.MEASURED, note=note),
            source=note,
        )
    note = f"{server.name}: rated power less the GPUs' TDP, an upper bound ({server.sources[''].title})"
    return ServerPower(
        per_gpu=Quantity(
            value=server.host_power_high_w / server.num_gpus, unit="W/GPU", basis=Basis.ASSUMED, note=note
        ),
        source=note,
    )


def facility_power_w(gpu_power_w: float, num_gpus: float, server_power_w: float, pue: float) -> float:
    """Return facility power: (GPUs + servers) × PUE.

    >>> facility_power_w(1000.0, 2, 350.0, 1.2)
    2040.0
    """
    return (gpu_power_w + num_gpus * server_power_w) * pue
