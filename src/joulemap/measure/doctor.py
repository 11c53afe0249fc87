"""What this machine can measure, what it cannot, why, and the command that mends it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata, util
from pathlib import Path

import psutil

from joulemap.errors import JoulemapError, install_extra
from joulemap.measure.activity.choice import choose_activity
from joulemap.measure.meters.choice import DETECTED, MeterOpener, MeterOptions, meter_openers
from joulemap.measure.meters.meter import Meter
from joulemap.records import Basis
from joulemap.units import BYTES_PER_GB

STREAMS = 4096
"""Concurrent streams that the load client must be able to hold."""
SPARE_FILES = 512
"""Open files that a process needs beside its streams."""
FAST_CLOCKS = frozenset({"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"})
"""Clock sources that are read without leaving the process."""
ENOUGH_CPUS = 4
ENOUGH_DISK_BYTES = 2 * BYTES_PER_GB
PROC = Path("/proc")
SYS = Path("/sys")


class State(StrEnum):
    """How well something can be measured."""

    OK = "ok"
    LIMITED = "limited"
    """It works, but a careful reader must know something."""
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    group: str
    """What it belongs to: ``power``, ``activity``, ``engines``, ``load client``, ``machine``."""
    name: str
    state: State
    finding: str
    """What was found, or why it cannot be had."""
    fix: str | None = None
    """What mends it, as a command where one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All that was looked at, and on what basis energy would be measured now."""

    checks: tuple[Check, ...]
    energy_basis: Basis
    """Basis of the energies that ``joulemap measure`` would give on this machine as it is."""
    energy_source: str
    """Whose energies those would be."""

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "energy_basis": self.energy_basis.value,
            "energy_source": self.energy_source,
            "checks": [
                {"group": c.group, "name": c.name, "state": c.state.value, "finding": c.finding, "fix": c.fix}
                for c in self.checks
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is looked at; tests give their own."""

    options: MeterOptions
    openers: Mapping[str, MeterOpener]
    proc: Path = PROC
    sys: Path = SYS


def examine_machine(surroundings: Surroundings | None = None) -> Examination:
    """Look at everything that measuring needs; nothing that is missing raises."""
    around = surroundings or Surroundings(options=MeterOptions(), openers=meter_openers())
    power, basis, source = _power(around)
    checks = (
        *power,
        _activity(around.options),
        *_engines(),
        *_load_client(around.proc),
        *_machine(around.proc, around.sys),
    )
    return Examination(checks=checks, energy_basis=basis, energy_source=source)


def _power(around: Surroundings) -> tuple[list[Check], Basis, str]:
    checks, found = [], []
    third = [name for name in around.openers if name not in (*DETECTED, "replay", "assumed")]
    for name in (*(n for n in DETECTED if n in around.openers), *third):
        check, basis = _meter(name, around.openers[name], around.options)
        checks.append(check)
        if basis is not None and name not in third:
            found.append((name, basis))
    assumed, _ = _meter("assumed", around.openers["assumed"], around.options)
    checks.append(assumed)
    if not found:
        return checks, Basis.ASSUMED, "CPU utilisation × an assumed TDP, for want of a meter"
    # A run's energy is that of its GPUs where there are any: the first meter found is the one that counts.
    return checks, found[0][1], " and ".join(name for name, _ in found)


def _meter(name: str, opener: MeterOpener, options: MeterOptions) -> tuple[Check, Basis | None]:
    try:
        meter = opener(options)
        try:
            return _meter_found(name, meter)
        finally:
            meter.close()
    except JoulemapError as error:
        return Check(group="power", name=name, state=State.ABSENT, finding=error.message, fix=error.fix), None
    except Exception as error:  # noqa: BLE001 - a third party's meter must not end the examination
        finding = f"its code failed with {type(error).__name__}: {error}"
        return Check(group="power", name=name, state=State.ABSENT, finding=finding), None


def _meter_found(name: str, meter: Meter) -> tuple[Check, Basis | None]:
    description = meter.describe()
    meter.read()
    counter = "energy counter" if description.counter_resolution_j else "power only"
    limited = description.notes or description.basis is not Basis.MEASURED
    finding = "; ".join([f"{description.summary}: {counter}, {description.basis.value}", *description.notes])
    state = State.LIMITED if limited else State.OK
    return Check(group="power", name=name, state=state, finding=finding), description.basis


def _activity(options: MeterOptions) -> Check:
    group, name = "activity", "GPU activity"
    try:
        source, why = choose_activity(gpus=options.gpus, environment=options.environment, clock=options.clock)
    except JoulemapError as error:
        return Check(group=group, name=name, state=State.ABSENT, finding=error.message, fix=error.fix)
    if source is None:
        fix = "without it, what the GPU was busy with is modelled; --dcgm URL reads a dcgm-exporter instead"
        return Check(group=group, name=name, state=State.ABSENT, finding=why, fix=fix)
    source.close()
    return Check(
        group=group, name=name, state=State.OK, finding="multiprocessors, tensor pipes, memory, links (GPM)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Library:
    module: str
    distribution: str
    purpose: str
    fix: str


LIBRARIES = (
    _Library(
        module="xllamacpp",
        distribution="xllamacpp",
        purpose="the embedded engine of 'joulemap measure'",
        fix="pip install xllamacpp",
    ),
    _Library(
        module="torch",
        distribution="torch",
        purpose="models in process (--diffusers, --transformers)",
        fix=install_extra("transformers"),
    ),
    _Library(
        module="diffusers",
        distribution="diffusers",
        purpose="image and video pipelines in process (--diffusers)",
        fix=install_extra("diffusers"),
    ),
    _Library(
        module="transformers",
        distribution="transformers",
        purpose="language models in process (--transformers)",
        fix=install_extra("transformers"),
    ),
)


def _engines() -> Iterator[Check]:
    for library in LIBRARIES:
        group, name = "engines", library.module
        if util.find_spec(library.module) is None:
            finding = f"not installed; needed for {library.purpose}"
            yield Check(group=group, name=name, state=State.ABSENT, finding=finding, fix=library.fix)
            continue
        finding = f"{_version(library.distribution)}: {library.purpose}"
        yield Check(group=group, name=name, state=State.OK, finding=finding)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "installed"


def _load_client(proc: Path) -> Iterator[Check]:
    group = "load client"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = STREAMS + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield Check(group=group, name="open files", state=State.OK, finding=f"{soft} allowed, {needed} needed")
    else:
        may = hard == resource.RLIM_INFINITY or hard >= needed
        fix = f"ulimit -n {needed}" if may else f"as root: ulimit -Hn {needed} && ulimit -n {needed}"
        finding = f"{soft} allowed: at most {max(0, soft - SPARE_FILES)} streams at once, of {STREAMS}"
        yield Check(group=group, name="open files", state=State.LIMITED, finding=finding, fix=fix)
    ports = _words(proc / "sys/net/ipv4/ip_local_port_range")
    if len(ports) == 2:
        free = int(ports[1]) - int(ports[0]) + 1
        state = State.OK if free >= 2 * STREAMS else State.LIMITED
        widen = None if state is State.OK else "sudo sysctl net.ipv4.ip_local_port_range='10240 65535'"
        yield Check(group=group, name="local ports", state=state, finding=f"{free} for connections", fix=widen)
    yield _loopback()


def _loopback() -> Check:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return Check(
                group="load client", name="loopback", state=State.OK, finding="servers may listen on 127.0.0.1"
            )
    except OSError as error:
        finding = f"the embedded engine cannot listen on 127.0.0.1: {error}"
        return Check(
            group="load client", name="loopback", state=State.ABSENT, finding=finding, fix="ip link set lo up"
        )


def _machine(proc: Path, sys: Path) -> Iterator[Check]:
    yield _cpus(sys)
    yield _clock(sys)
    yield _virtual(proc, sys)
    free = shutil.disk_usage(Path.home()).free
    low = free < ENOUGH_DISK_BYTES
    yield Check(
        group="machine",
        name="disk",
        state=State.LIMITED if low else State.OK,
        finding=f"{free / BYTES_PER_GB:.1f} GB free in the home folder, where runs are kept by default",
        fix="free some space, or name another folder: --store FOLDER" if low else None,
    )


def _cpus(sys: Path) -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    quota = _words(sys / "fs/cgroup/cpu.max")
    limit = int(quota[0]) / int(quota[1]) if len(quota) == 2 and quota[0].isdigit() else None
    cpus = min(usable, limit) if limit is not None else usable
    finding = f"{cpus:g} usable" + (
        f" (of {usable}, limited by the container)" if limit is not None and limit < usable else ""
    )
    if cpus >= ENOUGH_CPUS:
        return Check(group="machine", name="CPUs", state=State.OK, finding=finding)
    finding += ": engine and load client share them, which slows both"
    return Check(
        group="machine",
        name="CPUs",
        state=State.LIMITED,
        finding=finding,
        fix="start an engine on this machine with OMP_NUM_THREADS=1, or load it from another machine",
    )


def _clock(sys: Path) -> Check:
    source = _words(sys / "devices/system/clocksource/clocksource0/current_clocksource")
    begin_s = time.perf_counter()
    for _ in range(1000):
        time.monotonic()
    cost_ns = (time.perf_counter() - begin_s) * 1e6
    name = source[0] if source else platform.system()
    finding = f"{name}, {cost_ns:.0f} ns a reading"
    if source and source[0] not in FAST_CLOCKS:
        fix = "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource"
        finding += ": slow, and coarse for gaps between tokens"
        return Check(group="machine", name="clock", state=State.LIMITED, finding=finding, fix=fix)
    return Check(group="machine", name="clock", state=State.OK, finding=finding)


def _virtual(proc: Path, sys: Path) -> Check:
    flags = next((line for line in _lines(proc / "cpuinfo") if line.startswith("flags")), "")
    product = " ".join(_words(sys / "class/dmi/id/product_name"))
    if "hypervisor" not in flags.split():
        return Check(
            group="machine", name="virtual machine", state=State.OK, finding="no: counters are the hardware's own"
        )
    finding = f"yes ({product or 'hypervisor unknown'}): no CPU or memory counters, and neighbours may take time"
    fix = "measure CPU energy on the host; GPUs that are passed through are measured as usual"
    return Check(group="machine", name="virtual machine", state=State.LIMITED, finding=finding, fix=fix)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()
