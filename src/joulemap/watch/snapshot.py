"""What an agent knows at a moment: one frozen value, from which every view, endpoint and line is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joulemap.diagnose.diagnosis import Bound, Finding
from joulemap.measure.meters.meter import DeviceKind
from joulemap.records import Basis, Deployment, Quantity
from joulemap.watch.bill import AccountTotal
from joulemap.watch.requests import Account
from joulemap.watch.rolling import LedgerPower


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTotal:
    """One metered device."""

    device: str
    name: str
    kind: DeviceKind
    basis: Basis
    energy_j: float
    """Since the agent began."""
    power_w: float | None
    """The newest reading; ``None`` where there is none, or it is old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """Whether a source of the agent gives anything now."""

    up: bool
    reason: str = ""
    """Why it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The last minute; what is not known is ``None``, with a reason in ``missing``."""

    power: Quantity | None
    energy_per_output: Quantity | None
    output_throughput_per_s: float | None
    batch_size: float | None
    requests_waiting: float | None
    kv_cache_utilization: float | None
    starved_power: Quantity | None
    ledger: LedgerPower | None
    ideal_j_per_output: float | None
    bound_by: Bound | None
    next_bound: Bound | None
    finding: Finding | None
    """The first finding of the diagnosis."""
    idle: bool
    """No request was under way."""
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Everything since the agent began; work energy is pending, idle, unattributed or some account's."""

    work_energy_j: float
    pending_energy_j: float
    idle_energy_j: float
    unattributed_energy_j: float
    accounts: tuple[tuple[Account, AccountTotal], ...]
    unmetered_s: float
    """Time whose energy is not known, and not in ``work_energy_j``."""
    prompt_tokens: float | None
    output_tokens: float | None
    finished_requests: float | None
    engine_restarts: int
    failed_scrapes: int
    meter_failures: int
    request_lines: int
    rejected_lines: Mapping[str, int]
    late_requests: int
    dropped_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What an agent knows at a moment."""

    at: datetime
    server: str
    """``host:port``."""
    deployment: Deployment
    meter: str
    basis: Basis
    """Of the energy of the devices that do the work."""
    share_basis: Basis
    """Of what each account used: also that of the weights by which joules are shared."""
    devices: tuple[DeviceTotal, ...]
    now: Now
    totals: Totals
    sources: Mapping[str, SourceState]
    """``meter``, ``engine``, and ``requests`` where they are logged."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        now, totals = self.now, self.totals
        return {
            "at": self.at.isoformat(),
            "server": self.server,
            "model_id": self.deployment.model_id,
            "engine": self.deployment.engine,
            "gpu_model": self.deployment.gpu_model,
            "meter": self.meter,
            "basis": self.basis.value,
            "share_basis": self.share_basis.value,
            "power_w": _quantity(now.power),
            "energy_per_output_j": _quantity(now.energy_per_output),
            "output_throughput_per_s": now.output_throughput_per_s,
            "batch_size": now.batch_size,
            "requests_waiting": now.requests_waiting,
            "kv_cache_utilization": now.kv_cache_utilization,
            "starved_power_w": _quantity(now.starved_power),
            "ledger_w": _ledger(now.ledger),
            "ideal_j_per_output": now.ideal_j_per_output,
            "bound_by": now.bound_by.value if now.bound_by else None,
            "next_bound": now.next_bound.value if now.next_bound else None,
            "finding": now.finding.to_json() if now.finding else None,
            "missing": dict(now.missing),
            "totals": {
                "work_energy_j": totals.work_energy_j,
                "pending_energy_j": totals.pending_energy_j,
                "idle_energy_j": totals.idle_energy_j,
                "unattributed_energy_j": totals.unattributed_energy_j,
                "unmetered_s": totals.unmetered_s,
                "prompt_tokens": totals.prompt_tokens,
                "output_tokens": totals.output_tokens,
                "finished_requests": totals.finished_requests,
                "engine_restarts": totals.engine_restarts,
                "failed_scrapes": totals.failed_scrapes,
                "meter_failures": totals.meter_failures,
                "request_lines": totals.request_lines,
                "rejected_lines": dict(totals.rejected_lines),
                "late_requests": totals.late_requests,
                "dropped_requests": totals.dropped_requests,
            },
            "accounts": [_account(account, total) for account, total in totals.accounts],
            "devices": [
                {
                    "device": d.device,
                    "name": d.name,
                    "kind": d.kind.value,
                    "basis": d.basis.value,
                    "energy_j": d.energy_j,
                    "power_w": d.power_w,
                }
                for d in self.devices
            ],
            "sources": {name: {"up": s.up, "reason": s.reason} for name, s in self.sources.items()},
            "notes": list(self.notes),
        }


def _quantity(quantity: Quantity | None) -> dict[str, Any] | None:
    return None if quantity is None else quantity.to_json()


def _ledger(ledger: LedgerPower | None) -> dict[str, Any] | None:
    if ledger is None:
        return None
    return {"basis": ledger.basis.value, "parts": {part.value: w for part, w in ledger.parts_w.items()}}


def _account(account: Account, total: AccountTotal) -> dict[str, Any]:
    return {
        **account._asdict(),
        "prefill_energy_j": total.prefill_energy_j,
        "decode_energy_j": total.decode_energy_j,
        "prompt_tokens": total.prompt_tokens,
        "output_tokens": total.output_tokens,
        "requests": total.requests,
    }
