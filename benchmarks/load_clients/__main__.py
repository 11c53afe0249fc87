"""Compare load clients on one mock server: ``python -m benchmarks.load_clients --help``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load_clients.observe import TOKENS_SENT, Place, run_observed, server_metric
from benchmarks.load_clients.peer_commands import PEERS
from benchmarks.load_clients.rows import HEADER, Row, bars
from benchmarks.load_clients.tokenizer import write_tokenizer
from joulemap.measure.mock_server import MockBehaviour, MockServerProcess

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = 0, 1
TTFT_S, ITL_S, TOKENS = 0.2, 0.02, 128
REPLY_S = TTFT_S + (TOKENS - 1) * ITL_S
SETTLE_S, LOOK_S = 1.0, 3.0
OURS = {"joulemap": "with_joulemap.py", "bare": "bare.py", "aiohttp": "with_aiohttp.py"}
"""Clients made here; all but joulemap's run in the environment that has aiohttp and orjson."""
REPEATED = ("joulemap", "bare")
"""Clients that are run as often as ``--rounds`` says, in turn; of each, the run of median CPU is shown."""


@contextmanager
def pinned_server(behaviour: MockBehaviour, *, realtime: bool) -> Iterator[MockServerProcess]:
    """Yield a mock server that has a core to itself."""
    with MockServerProcess(behaviour) as server:
        Place(core=SERVER_CORE, realtime=realtime).take(server.pid)
        yield server


def drained(streams: int, *, itl_s: float, realtime: bool) -> tuple[float, float, float]:
    """Drain a server with a reader that does nothing else.

    Returns:
        Chunks a second, the server's CPU for one chunk in µs, and the reader's.
    """
    with pinned_server(MockBehaviour(ttft_s=TTFT_S, itl_s=itl_s), realtime=realtime) as server:
        drain = subprocess.Popen(
            [sys.executable, str(HERE / "drain.py"), server.url, str(streams)],
            preexec_fn=Place(core=CLIENT_CORE, realtime=realtime).take,
        )
        try:
            while server_metric(server.url, "vllm:num_requests_running") < streams:
                time.sleep(0.2)
            time.sleep(SETTLE_S)
            times = []
            for _ in range(2):
                time.sleep(LOOK_S)
                tokens = server_metric(server.url, TOKENS_SENT)
                times.append((time.monotonic(), tokens, cpu_s(server.pid), cpu_s(drain.pid)))
        finally:
            drain.kill()
            drain.wait()
    span_s, chunks, server_s, reader_s = (after - before for before, after in zip(*times, strict=True))
    return chunks / span_s, server_s / chunks * 1e6, reader_s / chunks * 1e6


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def stats_of(url: str) -> dict[str, Any]:
    """Return what the server says of itself since the last time it was asked."""
    with urllib.request.urlopen(f"{url}/mock/stats") as reply:
        told: dict[str, Any] = json.load(reply)
    return told


def measured(name: str, streams: int, options: argparse.Namespace) -> Row | str:
    """Run one client; return its row of the table, or why there is none."""
    requests = streams * options.replies
    behaviour = MockBehaviour(ttft_s=TTFT_S, itl_s=ITL_S, tokens=TOKENS)
    with (
        tempfile.TemporaryDirectory() as folder,
        pinned_server(behaviour, realtime=options.realtime) as server,
    ):
        out, log = Path(folder) / "out", Path(folder) / "log"
        out.mkdir()
        write_tokenizer(Path(folder) / "tokenizer")
        if name in OURS:
            python = sys.executable if name == "joulemap" else str(options.peers / "aiohttp" / "bin" / "python")
            script = str(HERE / "clients" / OURS[name])
            command = [python, script, server.url, str(streams), str(requests), str(REPLY_S)]
        else:
            command = PEERS[name].command(options.peers / name, server.url, streams, requests, out)
        if not Path(command[0]).exists():
            return "not installed: python benchmarks/load_clients/peers.py FOLDER, then --peers FOLDER"
        env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
        place = Place(core=CLIENT_CORE, realtime=options.realtime)
        try:
            seen = run_observed(command, server.url, place=place, env=env, log=log)
            told = json.loads(log.read_text().splitlines()[-1]) if name in OURS else PEERS[name].read(out)
        except (RuntimeError, OSError, LookupError, ValueError, StopIteration) as error:
            return f"not run: {error}"
        own = stats_of(server.url)
    return Row(
        name=name,
        seen=seen,
        ttft_s=tuple(told["ttft_s"]),
        gap_s=tuple(told["gap_s"]),
        mean_gaps=name in PEERS and PEERS[name].mean_gaps,
        sent_ttft_s=own["ttft_mean_s"],
        sent_gap_p99_s=own["gap_p99_s"],
        table_mb=told.get("table_mb"),
        in_flight=told.get("in_flight"),
        own_verdict=tuple(told.get("own_verdict", ())),
    )


def table(names: list[str], streams: int, options: argparse.Namespace) -> dict[str, Row]:
    """Run clients and print their rows as they come; of a client's several runs, return that of median CPU."""
    ideal = streams * TOKENS / REPLY_S / 1e3
    print(f"\n{streams} streams of {TOKENS} tokens, TTFT {TTFT_S * 1e3:.0f} ms, ITL {ITL_S * 1e3:.0f} ms", end="; ")
    print(f"ideal: {ideal:.1f}k tokens/s\n\n{HEADER}", flush=True)
    rows: dict[str, list[Row]] = {}
    turns = [name for name in names if name in REPEATED] * options.rounds
    for name in turns + [name for name in names if name not in REPEATED]:
        row = measured(name, streams, options)
        if isinstance(row, str):
            print(f"| {name} | {row} | | | | | | |", flush=True)
            continue
        rows.setdefault(name, []).append(row)
        print(row, flush=True)
    by_cpu = {name: sorted(of, key=lambda row: row.seen.cpu_ms_per_1000_tokens) for name, of in rows.items()}
    return {name: of[len(of) // 2] for name, of in by_cpu.items()}


def stolen_s() -> float:
    """Return the seconds that the hypervisor has taken from this machine's cores since it started."""
    ticks = int(Path("/proc/stat").read_text().splitlines()[0].split()[8])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_clients", description=__doc__)
    parser.add_argument("--streams", type=int, default=1024)
    parser.add_argument("--more-streams", type=int, default=2048, help="for joulemap and bare alone; 0: not")
    parser.add_argument("--replies", type=int, default=4, help="replies of each stream")
    parser.add_argument("--rounds", type=int, default=3, help="runs of joulemap and bare")
    parser.add_argument("--clients", default=",".join([*OURS, *PEERS]))
    parser.add_argument("--peers", type=Path, default=Path("/nonexistent"), help="folder made by peers.py")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="put server and client before all other work on their cores (as root)",
    )
    options = parser.parse_args()
    began_s, stolen = time.monotonic(), stolen_s()
    print(f"load of this machine before: {os.getloadavg()[0]:.2f}")
    print("server and client have real-time priority" if options.realtime else "ordinary priority")
    limit, _, _ = drained(options.streams, itl_s=0.001, realtime=options.realtime)
    _, server_us, reader_us = drained(options.streams, itl_s=ITL_S, realtime=options.realtime)
    print(f"the server alone: {limit / 1e3:.1f}k chunks/s at most; {server_us:.1f} µs of CPU each at this load")
    print(f"a reader that only drains: {reader_us:.1f} ms of CPU per 1,000 chunks")
    names = options.clients.split(",")
    rows = table(names, options.streams, options)
    more = table([n for n in names if n in REPEATED], options.more_streams, options) if options.more_streams else {}
    print(f"\n{bars(rows, more)}")
    print(f"\n{time.monotonic() - began_s:.0f} s; stolen by the hypervisor meanwhile: {stolen_s() - stolen:.1f} s")


if __name__ == "__main__":
    main()
