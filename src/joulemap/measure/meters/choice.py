"""Choosing meters: by name, or whichever of this machine's is real; with the reasons for each that is not used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path

from joulemap.clock import Clock, SystemClock
from joulemap.errors import JoulemapError, MeasurementError, UnknownNameError, UsageError
from joulemap.measure.meters.amd import AmdMeter
from joulemap.measure.meters.apple import AppleMeter
from joulemap.measure.meters.assumed import AssumedMeter
from joulemap.measure.meters.meter import Meter
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.meters.rapl import POWERCAP, RaplMeter

ENTRY_POINT_GROUP = "joulemap.meters"
"""Third parties register a function that takes :class:`MeterOptions` and returns a :class:`Meter`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterOptions:
    """What a meter may need to know to be opened."""

    gpus: tuple[str, ...] | None = None
    """GPUs to measure by index or UUID; by default those that the environment leaves visible."""
    tdp_w: float | None = None
    """The CPUs' TDP, for the assumed meter."""
    replay: Path | None = None
    """The recording, for the replay meter."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    powercap: Path = POWERCAP
    clock: Clock = field(default_factory=SystemClock)


MeterOpener = Callable[[MeterOptions], Meter]


def _open_replay(options: MeterOptions) -> Meter:
    if options.replay is None:
        msg = "the replay meter needs a recording"
        raise UsageError(msg, fix="--meter replay:FILE")
    from joulemap.measure.meters.replay import ReplayMeter

    return ReplayMeter(options.replay, clock=options.clock)


OPENERS: dict[str, MeterOpener] = {
    "nvidia": lambda o: NvidiaMeter(gpus=o.gpus, environment=o.environment, clock=o.clock),
    "amd": lambda o: AmdMeter(gpus=o.gpus, environment=o.environment, clock=o.clock),
    "apple": lambda o: AppleMeter(clock=o.clock),
    "rapl": lambda o: RaplMeter(o.powercap, clock=o.clock),
    "replay": _open_replay,
    "assumed": lambda o: AssumedMeter(o.tdp_w, clock=o.clock),
}
"""joulemap's own meters."""

DETECTED = ("nvidia", "amd", "apple", "rapl")
"""Meters that are tried where none is named; the assumed one follows if none of them is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterChoice:
    """The meters that were opened, and why."""

    meters: tuple[Meter, ...]
    explanation: tuple[str, ...]
    """One line a meter: what it measures, or why it is not used."""

    def close(self) -> None:
        """Close every meter; one that cannot be closed does not keep the others open."""
        for meter in self.meters:
            with suppress(MeasurementError):
                meter.close()


def meter_openers() -> dict[str, MeterOpener]:
    """Return every known meter's opener by name; third parties' come after, and cannot replace, joulemap's own."""
    found = {entry.name: entry.load for entry in entry_points(group=ENTRY_POINT_GROUP)}
    third = {name: _loaded(load) for name, load in found.items()}
    return {**third, **OPENERS}


def _loaded(load: Callable[[], MeterOpener]) -> MeterOpener:
    return lambda options: load()(options)


def choose_meters(
    names: Sequence[str] = (),
    options: MeterOptions | None = None,
    *,
    openers: Mapping[str, MeterOpener] | None = None,
) -> MeterChoice:
    """Open the meters that were named, or those that this machine has.

    Without names: every real meter that can be opened; if there is none, the assumed one, so that a run without
    hardware still says something, marked as assumed. A third party's meters are opened by name only.

    Args:
        names: Meters by name; ``replay:FILE`` names a recording.
        options: What the meters may need to know.
        openers: The known meters; by default joulemap's own and the installed third parties'.

    Raises:
        UnknownNameError: No meter has that name.
        JoulemapError: A meter that was named cannot be opened; those opened before it are closed again.
    """
    options = options or MeterOptions()
    known = meter_openers() if openers is None else dict(openers)
    return _open_named(names, options, known) if names else _detect(options, known)


def _open_named(names: Sequence[str], options: MeterOptions, known: Mapping[str, MeterOpener]) -> MeterChoice:
    opened: list[Meter] = []
    lines: list[str] = []
    try:
        for given in dict.fromkeys(names):
            name, _, argument = given.partition(":")
            if name not in known:
                raise UnknownNameError(kind="meter", name=name, known=known)
            meter = known[name](replace(options, replay=Path(argument)) if argument else options)
            opened.append(meter)
            lines.append(f"{name}: {_told(meter)} (asked for)")
    except JoulemapError:
        MeterChoice(meters=tuple(opened), explanation=()).close()
        raise
    return MeterChoice(meters=tuple(opened), explanation=tuple(lines))


def _detect(options: MeterOptions, known: Mapping[str, MeterOpener]) -> MeterChoice:
    opened: list[Meter] = []
    lines: list[str] = []
    for name in (n for n in DETECTED if n in known):
        try:
            meter = known[name](options)
        except JoulemapError as error:
            if isinstance(error, MeasurementError | UsageError):
                # The hardware is there, but measuring it would give false numbers: never fall back silently.
                MeterChoice(meters=tuple(opened), explanation=()).close()
                raise
            lines.append(f"{name}: not used, {error.message}")
            continue
        opened.append(meter)
        lines.append(f"{name}: {_told(meter)}")
    if not opened:
        meter = known["assumed"](options)
        opened.append(meter)
        lines.append(f"assumed: {_told(meter)}, for want of a real meter")
    return MeterChoice(meters=tuple(opened), explanation=tuple(lines))


def _told(meter: Meter) -> str:
    description = meter.describe()
    return f"{description.summary}, {description.basis.value}"
