"""A run: one measured configuration, with everything needed to believe and compare it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import Any

from joulemap.notebook import ShownInNotebooks
from joulemap.records.deployment import Deployment
from joulemap.records.measured import Annotations, Measured, Provenance, Validity
from joulemap.records.quantity import Basis, Quantity
from joulemap.records.workload import Workload

RUN_ID_LENGTH = 12
"""Hexadecimal digits of a run's id: 48 bits, so that a million runs collide with odds of 1 in 500."""

UNITS = {
    "_per_output_j": "J/{output}",
    "_per_request_j": "J/request",
    "output_throughput_per_s": "{output}/s",
    "request_throughput_per_s": "request/s",
    "_bytes_per_s": "B/s",
    "_flops_per_s": "FLOP/s",
    "_j": "J",
    "_w": "W",
    "_s": "s",
    "_c": "°C",
    "_tokens": "token",
    "_size": "request",
    "_requests": "request",
    "requests_waiting": "request",
    "preemptions": "1",
    "_utilization": "1",
    "_occupancy": "1",
    "_fraction": "1",
    "_rate": "1",
    "_share": "core",
}
"""Unit of a measured quantity by the ending of its name; the first that fits counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(ShownInNotebooks):
    """One measured configuration.

    ``run_id`` is a hash of workload, deployment and measured quantities, so that the same result read
    twice is the same run; provenance, nicknames and length histograms do not enter it.
    """

    workload: Workload
    deployment: Deployment
    measured: Measured
    provenance: Provenance
    validity: Validity = field(default_factory=Validity)
    annotations: Annotations = field(default_factory=Annotations)

    @property
    def run_id(self) -> str:
        """The run's content hash, as ``RUN_ID_LENGTH`` hexadecimal digits."""
        return content_id(self.workload, self.deployment, self.measured)

    def quantity(self, name: str) -> Quantity | None:
        """Return a measured quantity with unit, basis and interval; ``None`` where the run has none."""
        value = getattr(self.measured, name)
        if value is None:
            return None
        low, high = self.annotations.intervals.get(name, (None, None))
        return Quantity(
            value=float(value),
            unit=unit_of(name, self.workload.output_unit),
            basis=self.annotations.basis.get(name, Basis.MEASURED),
            low=low,
            high=high,
            note="" if low is not None else "measured once: no interval known",
        )


def unit_of(name: str, output_unit: str = "output") -> str:
    """Return the unit of a measured quantity from its name.

    >>> unit_of("energy_per_output_j", "token")
    'J/token'
    """
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return unit.format(output=output_unit)
    msg = f"no unit known for {name!r}"
    raise KeyError(msg)


def content_id(*parts: Workload | Deployment | Measured) -> str:
    """Return the hash of the given parts; fields marked as attachments, and ``None``, do not enter it."""
    content = [
        {
            f.name: value
            for f in fields(part)
            if not f.metadata.get("attachment") and (value := _plain(getattr(part, f.name))) is not None
        }
        for part in parts
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]


def _plain(value: Any) -> Any:
    # 8 and 8.0 are the same measurement whichever way a source wrote it.
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
