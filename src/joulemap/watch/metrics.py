"""Every metric that is exported, declared once: the Prometheus endpoint, OTLP and the reference are made from this.

Names, units and attributes follow OpenTelemetry's semantic conventions where these have them (``hw.energy``,
``hw.power``, ``gen_ai.token.type``); the Prometheus name is that of OpenTelemetry's own translation: dots become
underscores, the unit follows, and a counter ends in ``_total``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from joulemap import __version__
from joulemap.diagnose.diagnosis import Bound
from joulemap.measure.meters.meter import DeviceKind
from joulemap.records import Quantity
from joulemap.watch.requests import OTHER
from joulemap.watch.snapshot import Snapshot

Sample = tuple[Mapping[str, str], float]
"""Attributes beside ``server``, and the value."""

UNIT_WORDS = {"J": "joules", "W": "watts", "s": "seconds", "1": "ratio"}
"""Words that Prometheus names end in, by UCUM unit; what stands in braces is no unit, and adds none."""
HARDWARE = {
    DeviceKind.GPU: "gpu",
    DeviceKind.CPU: "cpu",
    DeviceKind.DRAM: "memory",
    DeviceKind.NPU: "npu",
}
"""``hw.type`` of each kind of device; the conventions have no neural engine."""


class Kind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    """Grows, and begins at zero with each agent."""
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One exported metric."""

    name: str
    """OpenTelemetry's name."""
    kind: Kind
    unit: str
    """UCUM; empty for states."""
    attributes: tuple[str, ...]
    """Beside ``server``."""
    description: str
    samples: Callable[[Snapshot], Iterable[Sample]]
    """Nothing where the value is not known: a missing series, never a zero."""

    @property
    def prometheus_name(self) -> str:
        """The name in Prometheus.

        >>> next(m.prometheus_name for m in METRICS if m.name == "hw.energy")
        'hw_energy_joules_total'
        """
        word = UNIT_WORDS.get(self.unit)
        parts = [self.name.replace(".", "_"), *([word] if word else [])]
        return "_".join([*parts, "total"] if self.kind is Kind.COUNTER else parts)

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in Prometheus."""
        return ("server", *(name.replace(".", "_") for name in self.attributes))


def _hardware(snapshot: Snapshot, values: Mapping[str, float | None]) -> Iterator[Sample]:
    for device in snapshot.devices:
        value = values[device.device]
        if value is not None:
            attributes = {
                "hw.id": device.device,
                "hw.name": device.name,
                "hw.type": HARDWARE[device.kind],
                "basis": device.basis.value,
            }
            yield attributes, value


def _told(quantity: Quantity | None) -> Iterator[Sample]:
    if quantity is not None:
        yield {"basis": quantity.basis.value}, quantity.value


def _plain(value: float | None) -> Iterator[Sample]:
    if value is not None:
        yield {}, value


def _ledger(snapshot: Snapshot) -> Iterator[Sample]:
    ledger = snapshot.now.ledger
    if ledger is not None:
        for part, watts in ledger.parts_w.items():
            yield {"part": part.value, "basis": ledger.basis.value}, watts


def _bounds(snapshot: Snapshot) -> Iterator[Sample]:
    if snapshot.now.bound_by is not None:
        for bound in Bound:
            yield {"bound": bound.value}, float(bound is snapshot.now.bound_by)


def _tokens(snapshot: Snapshot) -> Iterator[Sample]:
    totals = snapshot.totals
    for kind, value in (("input", totals.prompt_tokens), ("output", totals.output_tokens)):
        if value is not None:
            yield {"gen_ai.token.type": kind}, value


def _bills(snapshot: Snapshot) -> Iterator[Sample]:
    for account, total in snapshot.totals.accounts:
        yield {**account._asdict(), "phase": "prefill"}, total.prefill_energy_j
        yield {**account._asdict(), "phase": "decode"}, total.decode_energy_j


def _billed_tokens(snapshot: Snapshot) -> Iterator[Sample]:
    for account, total in snapshot.totals.accounts:
        yield {**account._asdict(), "gen_ai.token.type": "input"}, total.prompt_tokens
        yield {**account._asdict(), "gen_ai.token.type": "output"}, total.output_tokens


def _lines(snapshot: Snapshot) -> Iterator[Sample]:
    if "requests" in snapshot.sources:
        yield {"outcome": "accepted"}, float(snapshot.totals.request_lines)
        for reason, count in snapshot.totals.rejected_lines.items():
            yield {"outcome": reason}, float(count)


def _lost(snapshot: Snapshot) -> Iterator[Sample]:
    if "requests" in snapshot.sources:
        yield {"reason": "late"}, float(snapshot.totals.late_requests)
        yield {"reason": "too many waiting"}, float(snapshot.totals.dropped_requests)


def _info(snapshot: Snapshot) -> Iterator[Sample]:
    deployment = snapshot.deployment
    told = {
        "model": deployment.model_id,
        "engine": deployment.engine,
        "gpu": deployment.gpu_model,
        "meter": snapshot.meter,
        "version": __version__,
    }
    yield {name: value or "" for name, value in told.items()}, 1.0


ACCOUNT = ("tenant", "route", "model")
_OTHERS = f"accounts beyond --max-accounts are {OTHER.tenant!r}"

METRICS: tuple[Metric, ...] = (
    Metric(
        name="hw.energy",
        kind=Kind.COUNTER,
        unit="J",
        attributes=("hw.id", "hw.name", "hw.type", "basis"),
        description="Energy of each metered device.",
        samples=lambda s: _hardware(s, {d.device: d.energy_j for d in s.devices}),
    ),
    Metric(
        name="hw.power",
        kind=Kind.GAUGE,
        unit="W",
        attributes=("hw.id", "hw.name", "hw.type", "basis"),
        description="Newest power of each metered device.",
        samples=lambda s: _hardware(s, {d.device: d.power_w for d in s.devices}),
    ),
    Metric(
        name="joulemap.work.energy",
        kind=Kind.COUNTER,
        unit="J",
        attributes=("basis",),
        description="Energy of the devices that do the work: the sum of all accounts, idle, unattributed, pending.",
        samples=lambda s: iter([({"basis": s.basis.value}, s.totals.work_energy_j)]),
    ),
    Metric(
        name="joulemap.attributed.energy",
        kind=Kind.COUNTER,
        unit="J",
        attributes=(*ACCOUNT, "phase"),
        description=f"Energy shared to logged requests, prefill and decode apart; {_OTHERS}.",
        samples=_bills,
    ),
    Metric(
        name="joulemap.idle.energy",
        kind=Kind.COUNTER,
        unit="J",
        attributes=(),
        description="Energy of the time without any request.",
        samples=lambda s: _plain(s.totals.idle_energy_j),
    ),
    Metric(
        name="joulemap.unattributed.energy",
        kind=Kind.COUNTER,
        unit="J",
        attributes=(),
        description="Energy of work that no logged request explains.",
        samples=lambda s: _plain(s.totals.unattributed_energy_j),
    ),
    Metric(
        name="joulemap.pending.energy",
        kind=Kind.GAUGE,
        unit="J",
        attributes=(),
        description="Energy that waits for the lines of its requests.",
        samples=lambda s: _plain(s.totals.pending_energy_j),
    ),
    Metric(
        name="joulemap.attributed.tokens",
        kind=Kind.COUNTER,
        unit="{token}",
        attributes=(*ACCOUNT, "gen_ai.token.type"),
        description="Tokens of logged requests, once settled; input without those found in the prefix cache.",
        samples=_billed_tokens,
    ),
    Metric(
        name="joulemap.attributed.requests",
        kind=Kind.COUNTER,
        unit="{request}",
        attributes=ACCOUNT,
        description="Logged requests whose intervals are all settled.",
        samples=lambda s: ((a._asdict(), float(t.requests)) for a, t in s.totals.accounts),
    ),
    Metric(
        name="joulemap.tokens",
        kind=Kind.COUNTER,
        unit="{token}",
        attributes=("gen_ai.token.type",),
        description="Tokens that the engine counted, over its restarts.",
        samples=_tokens,
    ),
    Metric(
        name="joulemap.requests",
        kind=Kind.COUNTER,
        unit="{request}",
        attributes=(),
        description="Requests that the engine finished, over its restarts.",
        samples=lambda s: _plain(s.totals.finished_requests),
    ),
    Metric(
        name="joulemap.energy.per_output_token",
        kind=Kind.GAUGE,
        unit="J",
        attributes=("basis",),
        description="Energy per output token over the last minute, prefill included.",
        samples=lambda s: _told(s.now.energy_per_output),
    ),
    Metric(
        name="joulemap.energy.per_output_token.ideal",
        kind=Kind.GAUGE,
        unit="J",
        attributes=(),
        description="The same work at the roofline and the largest batch that fits (modelled).",
        samples=lambda s: _plain(s.now.ideal_j_per_output),
    ),
    Metric(
        name="joulemap.ledger.power",
        kind=Kind.GAUGE,
        unit="W",
        attributes=("part", "basis"),
        description="Where the watts of the last minute go; the parts sum to the power.",
        samples=_ledger,
    ),
    Metric(
        name="joulemap.starved.power",
        kind=Kind.GAUGE,
        unit="W",
        attributes=("basis",),
        description="Power drawn while the devices wait: for the host, for launches, for requests.",
        samples=lambda s: _told(s.now.starved_power),
    ),
    Metric(
        name="joulemap.bound",
        kind=Kind.GAUGE,
        unit="",
        attributes=("bound",),
        description="1 for what binds the server, 0 for the other bounds.",
        samples=_bounds,
    ),
    Metric(
        name="joulemap.batch_size",
        kind=Kind.GAUGE,
        unit="{request}",
        attributes=(),
        description="Requests that run together, at the newest scrape.",
        samples=lambda s: _plain(s.now.batch_size),
    ),
    Metric(
        name="joulemap.requests_waiting",
        kind=Kind.GAUGE,
        unit="{request}",
        attributes=(),
        description="Requests in the engine's queue, at the newest scrape.",
        samples=lambda s: _plain(s.now.requests_waiting),
    ),
    Metric(
        name="joulemap.kv_cache.utilization",
        kind=Kind.GAUGE,
        unit="1",
        attributes=(),
        description="Used blocks of the KV cache over available blocks, at the newest scrape.",
        samples=lambda s: _plain(s.now.kv_cache_utilization),
    ),
    Metric(
        name="joulemap.source.up",
        kind=Kind.GAUGE,
        unit="",
        attributes=("source",),
        description="1 if a source (meter, engine, requests) gives anything now, else 0.",
        samples=lambda s: (({"source": name}, float(state.up)) for name, state in s.sources.items()),
    ),
    Metric(
        name="joulemap.unmetered.time",
        kind=Kind.COUNTER,
        unit="s",
        attributes=(),
        description="Time whose energy is not known, and in no counter.",
        samples=lambda s: _plain(s.totals.unmetered_s),
    ),
    Metric(
        name="joulemap.meter.failures",
        kind=Kind.COUNTER,
        unit="{failure}",
        attributes=(),
        description="Times that the meter stopped.",
        samples=lambda s: _plain(float(s.totals.meter_failures)),
    ),
    Metric(
        name="joulemap.scrape.failures",
        kind=Kind.COUNTER,
        unit="{failure}",
        attributes=(),
        description="Scrapes of the engine that failed.",
        samples=lambda s: _plain(float(s.totals.failed_scrapes)),
    ),
    Metric(
        name="joulemap.engine.restarts",
        kind=Kind.COUNTER,
        unit="{restart}",
        attributes=(),
        description="Times that the engine's counters began anew.",
        samples=lambda s: _plain(float(s.totals.engine_restarts)),
    ),
    Metric(
        name="joulemap.request_log.lines",
        kind=Kind.COUNTER,
        unit="{line}",
        attributes=("outcome",),
        description="Lines of the request log: accepted, or why not.",
        samples=_lines,
    ),
    Metric(
        name="joulemap.unbilled.requests",
        kind=Kind.COUNTER,
        unit="{request}",
        attributes=("reason",),
        description="Requests that could not be billed; their joules are unattributed.",
        samples=_lost,
    ),
    Metric(
        name="joulemap.info",
        kind=Kind.GAUGE,
        unit="",
        attributes=("model", "engine", "gpu", "meter", "version"),
        description="What is watched, and by what.",
        samples=_info,
    ),
)
"""All metrics; beside them the Prometheus endpoint tells its own ``process_cpu_seconds_total`` and the like."""
