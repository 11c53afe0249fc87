"""An agent whose time is moved by hand: a fake GPU, an engine that serves a schedule of requests, a request log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pynvml

from joulemap.errors import ServerError
from joulemap.measure.meters.fake_nvml import FakeGpu, FakeNvml
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.telemetry.recorder import TelemetryRecorder, TelemetrySource
from joulemap.watch.agent import Agent
from joulemap.watch.request_log import RequestLog
from joulemap.watch.server import WatchedServer
from joulemap.watch.settings import WatchSettings
from joulemap.watch.snapshot import Snapshot
from tests.measure.hand_clock import BEGIN, BEGIN_MONO_S, HandClock

URL = "http://127.0.0.1:8000"
DEPLOYMENT = {"model_id": "Qwen/Qwen3-8B", "weight_precision": "bfloat16", "max_num_seqs": 256}


@dataclass(frozen=True)
class Request:
    """A request of the schedule; times are seconds since the rig's begin."""

    begin_s: float
    first_s: float
    end_s: float
    prompt_tokens: int = 100
    output_tokens: int = 200
    cached_tokens: int = 0
    tenant: str = "red"
    route: str = "/chat"

    def line(self) -> str:
        start = BEGIN.timestamp()
        return json.dumps(
            {
                "start": start + self.begin_s,
                "first_token": start + self.first_s,
                "end": start + self.end_s,
                "prompt_tokens": self.prompt_tokens,
                "cached_tokens": self.cached_tokens,
                "output_tokens": self.output_tokens,
                "tenant": self.tenant,
                "route": self.route,
            }
        )


class ScheduledEngine:
    """Writes vLLM's metrics of a schedule of requests; those whose end has passed are added up once."""

    def __init__(self, clock: HandClock, requests: Sequence[Request] = ()) -> None:
        self.clock = clock
        self.open = list(requests)
        self.prompt = self.hits = self.output = self.finished = 0.0
        self.error: ServerError | None = None

    def since_s(self) -> float:
        return self.clock.monotonic_s() - BEGIN_MONO_S

    def restart(self) -> None:
        """Forget everything, as an engine does that was started anew."""
        self.open = [r for r in self.open if r.begin_s >= self.since_s()]
        self.prompt = self.hits = self.output = self.finished = 0.0

    def __call__(self) -> str:
        if self.error is not None:
            raise self.error
        t = self.since_s()
        for r in [r for r in self.open if r.end_s <= t]:
            self.open.remove(r)
            self.prompt, self.hits = self.prompt + r.prompt_tokens, self.hits + r.cached_tokens
            self.output, self.finished = self.output + r.output_tokens, self.finished + 1
        running = [r for r in self.open if r.begin_s <= t]
        begun = [r for r in running if r.first_s <= t]
        output = self.output + sum(r.output_tokens * (t - r.first_s) / (r.end_s - r.first_s) for r in begun)
        values = {
            "num_requests_running": len(running),
            "num_requests_waiting": 0,
            "kv_cache_usage_perc": min(1.0, len(running) / 64),
            "prompt_tokens_total": self.prompt + sum(r.prompt_tokens for r in begun),
            "prefix_cache_queries_total": self.prompt + sum(r.prompt_tokens for r in begun),
            "prefix_cache_hits_total": self.hits + sum(r.cached_tokens for r in begun),
            "generation_tokens_total": output,
            "request_success_total": self.finished,
            "num_preemptions_total": 0,
        }
        return "".join(f'vllm:{name}{{engine="0"}} {value!r}\n' for name, value in values.items())


@dataclass
class Rig:
    """One agent, moved by ``run``."""

    folder: Path
    requests: Sequence[Request] = ()
    settings: WatchSettings = field(default_factory=lambda: WatchSettings(settle_s=20.0))
    power: Callable[[float], float] = lambda _since_s: 400.0
    step_s: float = 1.0
    logged: bool = True
    deployment: dict[str, Any] = field(default_factory=lambda: dict(DEPLOYMENT))
    log_delay_s: float = 0.0
    counts: bool = True
    """Whether the GPU has an energy counter."""

    def __post_init__(self) -> None:
        self.clock = HandClock()
        self.gpu = FakeGpu(0)
        if not self.counts:
            counter = pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
            self.gpu.unsupported |= {counter, "nvmlDeviceGetTotalEnergyConsumption"}
        self.nvml = FakeNvml([self.gpu], power=lambda _i, t: self.power(t - BEGIN_MONO_S), clock=self.clock)
        self.engine = ScheduledEngine(self.clock, self.requests)
        self.log = self.folder / "requests.jsonl"
        self.log.touch()
        self.unwritten = sorted(self.requests, key=lambda r: r.end_s)
        self.opened = 0
        self.reads = True
        self.agent = Agent(
            WatchedServer(url=URL, deployment=self.deployment),
            self.open_meters,
            request_log=RequestLog(self.log) if self.logged else None,
            settings=self.settings,
            clock=self.clock,
            ask=lambda _server: {},
            recorder=TelemetryRecorder(
                TelemetrySource(f"{URL}/metrics", clock=self.clock, fetch=self.engine),
                clock=self.clock,
                keep_s=self.settings.keep_s,
            ),
        )

    @contextmanager
    def open_meters(self) -> Iterator[tuple[Instruments, tuple[str, ...]]]:
        self.opened += 1
        meter = NvidiaMeter(self.nvml, environment={}, clock=self.clock)
        instruments = Instruments([meter], clock=self.clock, keep_s=self.settings.keep_s)
        instruments.read_once()
        yield instruments, ("nvidia: fake",)
        meter.close()

    def run(self, seconds_s: float) -> Snapshot:
        """Move time on, one step after the other; return what the agent knows then."""
        for _ in range(round(seconds_s / self.step_s)):
            self.clock.sleep(self.step_s)
            self.write_log()
            if self.reads and self.agent.meter_is_open:
                self.agent.instruments.read_once()
            self.agent.tick()
        return self.agent.snapshot

    def write_log(self) -> None:
        due = self.engine.since_s() - self.log_delay_s
        count = next((i for i, r in enumerate(self.unwritten) if r.end_s > due), len(self.unwritten))
        if count:
            with self.log.open("a") as out:
                out.writelines(r.line() + "\n" for r in self.unwritten[:count])
            del self.unwritten[:count]

    def truth_j(self, begin_s: float, end_s: float) -> float:
        """Return the energy that the fake GPU used, in steps of 10 ms."""
        times = np.arange(begin_s, end_s, 0.01) + 0.005
        return float(sum(self.power(t) for t in times) * 0.01)


def steady(until_s: float, *, every_s: float = 1.0, tenants: Sequence[str] = ("red", "blue")) -> list[Request]:
    """A request each second, of 10 s each, in turn of each tenant."""
    count = int(until_s / every_s)
    return [
        Request(
            begin_s=i * every_s,
            first_s=i * every_s + 0.5,
            end_s=i * every_s + 10.0,
            tenant=tenants[i % len(tenants)],
        )
        for i in range(count)
    ]
