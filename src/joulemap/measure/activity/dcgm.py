"""GPU activity by scraping dcgm-exporter: for GPUs before Hopper, and for machines that are only reached by HTTP.

Sources: DCGM's field identifiers (profiling fields: shares of one; PCIe and NVLink in bytes per second) and its
blank values; dcgm-exporter's documentation (collection every 30 s unless started with ``-c``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from joulemap.clock import Clock, SystemClock
from joulemap.errors import EnvironmentLacksError, ServerError
from joulemap.measure.activity.activity import (
    QUANTITIES,
    SHARES,
    ActivityDescription,
    ActivityReading,
    DeviceActivity,
)
from joulemap.measure.meters.meter import Stopwatch
from joulemap.measure.telemetry.exposition import parse_exposition
from joulemap.measure.telemetry.fetch import fetch_text, server_name

FIELDS = {
    "DCGM_FI_PROF_SM_ACTIVE": "sm_utilization",
    "DCGM_FI_PROF_SM_OCCUPANCY": "sm_occupancy",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "compute_utilization",
    "DCGM_FI_PROF_DRAM_ACTIVE": "memory_bandwidth_utilization",
    "DCGM_FI_PROF_NVLINK_RX_BYTES": "nvlink_rx_bytes_per_s",
    "DCGM_FI_PROF_NVLINK_TX_BYTES": "nvlink_tx_bytes_per_s",
    "DCGM_FI_PROF_PCIE_RX_BYTES": "pcie_rx_bytes_per_s",
    "DCGM_FI_PROF_PCIE_TX_BYTES": "pcie_tx_bytes_per_s",
}
WANTED = frozenset({*FIELDS, "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_POWER_USAGE"})
"""The fields, and two that every configuration of the exporter has: they tell which GPUs there are."""
BLANK_FROM = 2.0**47
"""DCGM's blank for floats; its blanks for integers (9223372036854775792 and up) lie above it, nothing real does."""
BLANKS = {
    BLANK_FROM: "DCGM has no value for it",
    BLANK_FROM + 1: "DCGM did not find it",
    BLANK_FROM + 2: "this GPU does not have it",
    BLANK_FROM + 3: "DCGM may not read it: run dcgm-exporter with the capability SYS_ADMIN",
}
STALE_AFTER_S = 3.0
"""Busy GPUs never show the same numbers twice: if they do for so long, the exporter has not looked."""
PROF_OFF = "dcgm-exporter does not collect it: enable the DCGM_FI_PROF fields in its CSV (dcp-metrics-included.csv)"


class DcgmActivity:
    """Reads GPU activity off a dcgm-exporter. A scrape that fails leaves a hole with its reason.

    Args:
        url: The exporter's metrics, for example ``http://localhost:9400/metrics``.
        gpus: UUIDs of the GPUs to read; by default all that the exporter has.
        timeout_s: Time for one scrape.
        clock: Time for the stamps.
        fetch: Gets the text in another way; tests use it.

    Raises:
        EnvironmentLacksError: The exporter is not there, has no GPU, or only slices of one.
    """

    def __init__(
        self,
        url: str,
        *,
        gpus: Sequence[str] | None = None,
        timeout_s: float = 2.0,
        clock: Clock | None = None,
        fetch: Callable[[], str] | None = None,
    ) -> None:
        self._where = server_name(url)
        self._clock = clock or SystemClock()
        self._fetch = fetch or (lambda: fetch_text(url, timeout_s=timeout_s))
        self._devices = self._find(gpus)
        self._last_s: float | None = None
        self._changed: dict[str, tuple[Mapping[str, float], float]] = {}

    def describe(self) -> ActivityDescription:
        """Return the GPUs."""
        note = "dcgm-exporter collects every 30 s unless started with -c 1000; what is older is left out"
        return ActivityDescription(source="dcgm", devices=self._devices, notes=(note,))

    def read(self) -> ActivityReading:
        """Scrape once."""
        watch = Stopwatch(self._clock)
        now_s = self._clock.monotonic_s()
        interval_s = None if self._last_s is None else now_s - self._last_s
        try:
            told = self._scrape()
        except ServerError as error:
            missing = dict.fromkeys(QUANTITIES, error.message)
            return watch.stamp(tuple(DeviceActivity(device=d, missing=missing) for d in self._devices))
        self._last_s = now_s
        return watch.stamp(tuple(self._row(d, told.get(d), interval_s, now_s) for d in self._devices))

    def close(self) -> None:
        """Nothing is held open."""

    def _find(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        try:
            told = self._scrape()
        except ServerError as error:
            raise EnvironmentLacksError(error.message, fix=error.fix or "start dcgm-exporter -c 1000") from error
        lacking = [gpu for gpu in wanted or () if gpu not in told]
        if lacking or not told:
            msg = f"dcgm-exporter at {self._where} tells nothing of {', '.join(lacking) or 'any whole GPU'}"
            raise EnvironmentLacksError(msg, fix="start it on the machine with the GPUs: dcgm-exporter -c 1000")
        return tuple(wanted) if wanted is not None else tuple(told)

    def _scrape(self) -> dict[str, dict[str, float]]:
        """Return the values of every whole GPU by UUID and field; slices (MIG) are left out."""
        told: dict[str, dict[str, float]] = {}
        for name, series in parse_exposition(self._fetch(), WANTED).items():
            for s in series:
                uuid = s.labels.get("UUID")
                if uuid and not s.labels.get("GPU_I_ID"):
                    values = told.setdefault(uuid, {})
                    if name in FIELDS:
                        values[FIELDS[name]] = s.value
        return told

    def _row(
        self, device: str, told: Mapping[str, float] | None, interval_s: float | None, now_s: float
    ) -> DeviceActivity:
        if told is None:
            reason = "dcgm-exporter told nothing of this GPU"
            return DeviceActivity(device=device, missing=dict.fromkeys(QUANTITIES, reason))
        before, since_s = self._changed.get(device, ({}, now_s))
        if told != before:
            since_s = now_s
            self._changed[device] = (dict(told), now_s)
        if now_s - since_s > STALE_AFTER_S and any(told.values()):
            reason = f"dcgm-exporter has not looked for {now_s - since_s:.0f} s: start it with -c 1000"
            return DeviceActivity(device=device, missing=dict.fromkeys(QUANTITIES, reason))
        values: dict[str, float] = {}
        missing: dict[str, str] = {}
        for name in QUANTITIES:
            value = told.get(name)
            if value is None:
                missing[name] = PROF_OFF
            elif value >= BLANK_FROM:
                missing[name] = BLANKS.get(
                    value, "DCGM has no value for it, or another profiler holds the counters"
                )
            elif value < 0:
                missing[name] = f"dcgm-exporter tells {value!r}"
            else:
                values[name] = min(1.0, value) if name in SHARES else value
        return DeviceActivity(device=device, interval_s=interval_s, missing=missing, **values)
