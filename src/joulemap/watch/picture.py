"""Drawing the agent's snapshot: every number once, with the reason for those that lack."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from joulemap.diagnose.diagnosis import Part
from joulemap.measure.meters.meter import DeviceReading
from joulemap.measure.telemetry.sample import TelemetrySample
from joulemap.records import Deployment, Quantity, weakest
from joulemap.watch.rolling import LedgerPower
from joulemap.watch.server import deployment_of
from joulemap.watch.snapshot import DeviceTotal, Now, Snapshot, SourceState, Totals

if TYPE_CHECKING:
    from joulemap.watch.agent import Agent

STALE_S = 10.0
"""A reading older than this is not "now"."""
ELSEWHERE = "the server is on another machine, whose power the meters here do not see"


class Picture:
    """Draws snapshots of an agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._elsewhere = agent.server.is_elsewhere()

    def deployment(self) -> Deployment:
        """Return what is known of the deployment now."""
        agent = self._agent
        return deployment_of(agent.server, agent.facts, self._sample(), agent.instruments)

    def at(self, now: datetime, now_s: float) -> Snapshot:
        """Return what is known now."""
        agent = self._agent
        deployment = self.deployment()
        return Snapshot(
            at=now,
            server=agent.server.name,
            deployment=deployment,
            meter=agent.instruments.meter_name,
            basis=agent.instruments.basis,
            share_basis=weakest(agent.instruments.basis, agent.weights.basis),
            devices=self._devices(now_s),
            now=self._now(now_s),
            totals=self._totals(),
            sources=self._sources(now_s),
            notes=(*((ELSEWHERE,) if self._elsewhere else ()), *agent.instruments.notes()),
        )

    def _sample(self) -> TelemetrySample | None:
        return self._agent.recorder.latest()

    def _devices(self, now_s: float) -> tuple[DeviceTotal, ...]:
        agent = self._agent
        readings: dict[str, DeviceReading] = {}
        if agent.meter_is_open:
            for reading in agent.instruments.latest():
                if now_s - reading.mono_s <= STALE_S:
                    readings |= {row.device: row for row in reading.rows}
        return tuple(
            DeviceTotal(
                device=d.device,
                name=d.name,
                kind=d.kind,
                basis=description.basis,
                energy_j=agent.device_energy_j.get(d.device, 0.0),
                power_w=readings[d.device].power_w if d.device in readings else None,
            )
            for description in agent.instruments.descriptions
            for d in description.devices
        )

    def _now(self, now_s: float) -> Now:
        agent = self._agent
        basis = agent.instruments.basis
        interval = agent.instruments.relative_interval
        power = agent.recent.power_w(basis)
        energy, why_no_energy = agent.recent.energy_per_output_j(basis, interval)
        sample = self._sample()
        told = sample if sample is not None and self._engine(now_s).up else None
        last = agent.recent.last
        idle = last is not None and last.idle_fraction == 1.0
        ledger = agent.rolling.ledger(power, idle=idle)
        diagnosis = None if idle or power is None else agent.rolling.diagnosis
        missing = {} if energy is not None else {"energy_per_output_j": why_no_energy}
        if power is None:
            missing["power_w"] = (
                agent.meter_error or (last.missing if last else "") or "nothing was metered of late"
            )
        if told is None:
            missing |= dict.fromkeys(("batch_size", "requests_waiting"), self._engine(now_s).reason)
        if told is None or told.kv_cache_utilization is None:
            missing["kv_cache_utilization"] = (
                self._engine(now_s).reason if told is None else told.missing.get("kv_cache_utilization", "not told")
            )
        if diagnosis is None:
            missing["bound_by"] = "no request is under way" if idle else agent.rolling.missing
        return Now(
            power=power,
            energy_per_output=energy,
            output_throughput_per_s=agent.recent.output_throughput_per_s(),
            batch_size=None if told is None else told.requests_running,
            requests_waiting=None if told is None else told.requests_waiting,
            kv_cache_utilization=None if told is None else told.kv_cache_utilization,
            starved_power=self._starved(ledger, missing),
            ledger=ledger,
            ideal_j_per_output=None if diagnosis is None else diagnosis.ideal_j_per_output,
            bound_by=None if diagnosis is None else diagnosis.bound_by,
            next_bound=None if diagnosis is None else diagnosis.next_bound,
            finding=diagnosis.findings[0] if diagnosis is not None and diagnosis.findings else None,
            idle=idle,
            missing=missing,
        )

    def _starved(self, ledger: LedgerPower | None, missing: dict[str, str]) -> Quantity | None:
        if ledger is None or Part.STATIC_STARVED not in ledger.parts_w:
            missing["starved_power_w"] = (
                self._agent.rolling.missing if ledger is None else "neither idle power nor waiting is known"
            )
            return None
        return Quantity(value=ledger.parts_w[Part.STATIC_STARVED], unit="W", basis=ledger.basis)

    def _totals(self) -> Totals:
        agent, counters = self._agent, self._agent.counters

        def counted(name: str) -> float | None:
            return counters.totals[name] if name in counters.known else None

        log = agent.request_log
        return Totals(
            work_energy_j=agent.bill.energy_j,
            pending_energy_j=agent.bill.pending_energy_j,
            idle_energy_j=agent.bill.idle_energy_j,
            unattributed_energy_j=agent.bill.unattributed_energy_j,
            accounts=agent.bill.copied_accounts(),
            unmetered_s=agent.unmetered_s,
            prompt_tokens=counted("prompt_tokens"),
            output_tokens=counted("generation_tokens"),
            finished_requests=counted("requests_finished"),
            engine_restarts=counters.restarts,
            failed_scrapes=agent.failed_scrapes,
            meter_failures=agent.meter_failures,
            request_lines=0 if log is None else log.accepted,
            rejected_lines={} if log is None else dict(log.rejected),
            late_requests=agent.bill.late_requests,
            dropped_requests=agent.bill.dropped_requests,
        )

    def _engine(self, now_s: float) -> SourceState:
        scrape = self._agent.recorder.latest_scrape()
        if scrape is None:
            return SourceState(up=False, reason="not scraped yet")
        time_s, sample = scrape
        if not sample.engine:
            return SourceState(up=False, reason=next(iter(sample.missing.values()), "the engine tells nothing"))
        age_s = now_s - time_s
        if age_s > STALE_S + self._agent.settings.interval_s:
            return SourceState(up=False, reason=f"the last scrape was {age_s:.0f} s ago")
        return SourceState(up=True)

    def _sources(self, now_s: float) -> dict[str, SourceState]:
        agent = self._agent
        age_s = now_s - agent.instruments.read_until_s()
        meter = SourceState(up=True)
        if not agent.meter_is_open:
            meter = SourceState(up=False, reason=agent.meter_error or "stopped")
        elif age_s > STALE_S:
            meter = SourceState(up=False, reason=f"no reading for {age_s:.0f} s")
        found = {"meter": meter, "engine": self._engine(now_s)}
        log = agent.request_log
        if log is not None:
            found["requests"] = SourceState(up=log.error is None, reason=log.error or "")
        return found
