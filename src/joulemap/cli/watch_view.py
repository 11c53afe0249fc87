"""The live view of ``joulemap watch``: a terminal application that renders snapshots."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Header, Sparkline, Static

from joulemap.cli.output import figure
from joulemap.cli.watch_lines import told
from joulemap.cli.watch_totals import bill_rows
from joulemap.watch.agent import Agent
from joulemap.watch.snapshot import Snapshot

REFRESH_S = 1.0
HISTORY = 240
"""Powers that the sparkline shows."""
TILES = ("energy", "power", "throughput", "batch", "kv", "starved")


class WatchView(App[None]):
    """Shows an agent's snapshots until someone quits.

    Args:
        agent: Ticked in a thread of its own.
        ends_s: Monotonic time at which to quit; ``None`` for never.
    """

    CSS = """
    #tiles { height: 5; }
    .tile { width: 1fr; border: round $primary; padding: 0 1; }
    #sources { height: auto; padding: 0 1; }
    #finding { height: auto; padding: 0 1; }
    #power_history { height: 4; margin: 0 1; }
    DataTable { height: auto; margin: 1 1 0 1; }
    """
    BINDINGS: ClassVar[list[Binding | tuple[str, str] | tuple[str, str, str]]] = [Binding("q", "quit", "Quit")]
    TITLE = "joulemap watch"

    def __init__(self, agent: Agent, ends_s: float | None = None) -> None:
        super().__init__()
        self._agent = agent
        self._ends_s = ends_s
        self._powers: deque[float] = deque(maxlen=HISTORY)
        self._drawn: Snapshot | None = None

    def compose(self) -> ComposeResult:
        """Lay the view out."""
        yield Header()
        with Horizontal(id="tiles"):
            for name in TILES:
                yield Static(id=name, classes="tile", markup=False)
        yield Static(id="sources", markup=False)
        with VerticalScroll():
            yield Sparkline(id="power_history")
            yield Static(id="finding", markup=False)
            yield DataTable(id="ledger", cursor_type="none")
            yield DataTable(id="bill", cursor_type="none")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to refresh."""
        self.sub_title = self._agent.server.name
        self.query_one("#ledger", DataTable).add_columns("where the watts go", "W", "share")
        self.query_one("#bill", DataTable).add_columns(
            "account", "J", "share", "J prefill", "J decode", "requests", "output tokens", "J/token"
        )
        self.set_interval(REFRESH_S, self.refresh_view)
        self.refresh_view()

    def refresh_view(self) -> None:
        """Draw the newest snapshot."""
        if self._ends_s is not None and time.monotonic() >= self._ends_s:
            self.exit()
            return
        snapshot = self._agent.snapshot
        if snapshot is not self._drawn:
            self._drawn = snapshot
            self.draw(snapshot)

    def draw(self, snapshot: Snapshot) -> None:
        """Draw a snapshot."""
        now = snapshot.now
        energy = now.energy_per_output
        spread = "" if energy is None or energy.low is None else f"{figure(energy.low)}–{figure(energy.high)}"
        self._tile("energy", "J/token", told(energy), spread or now.missing.get("energy_per_output_j", ""))
        power = [d.power_w for d in snapshot.devices if d.power_w is not None]
        self._tile("power", "power", f"{told(now.power)} W", f"newest {figure(sum(power))} W" if power else "")
        self._tile("throughput", "output", f"{figure(now.output_throughput_per_s)} token/s", "")
        waiting = "" if now.requests_waiting is None else f"{figure(now.requests_waiting)} waiting"
        self._tile("batch", "batch", figure(now.batch_size), waiting)
        kv = "–" if now.kv_cache_utilization is None else f"{now.kv_cache_utilization:.0%}"
        self._tile("kv", "KV cache", kv, now.missing.get("kv_cache_utilization", ""))
        self._tile("starved", "starved", f"{told(now.starved_power)} W", now.missing.get("starved_power_w", ""))
        self.query_one("#sources", Static).update(_sources(snapshot))
        self.query_one("#finding", Static).update(_diagnosis(snapshot))
        if now.power is not None:
            self._powers.append(sum(power) if power else now.power.value)
            self.query_one("#power_history", Sparkline).data = list(self._powers)
        parts = {} if now.ledger is None else now.ledger.parts_w
        whole = sum(parts.values()) or 1.0
        shown = [[p.value, figure(w), f"{w / whole:.0%}"] for p, w in parts.items() if w > 0]
        _fill(self.query_one("#ledger", DataTable), shown)
        _fill(self.query_one("#bill", DataTable), bill_rows(snapshot) if snapshot.totals.work_energy_j else [])

    def _tile(self, name: str, title: str, value: str, more: str) -> None:
        self.query_one(f"#{name}", Static).update(Text(f"{title}\n{value}\n{more}"))


def _fill(table: DataTable[Text], rows: list[list[str]]) -> None:
    table.clear()
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))


def _sources(snapshot: Snapshot) -> Text:
    text = Text(f"{snapshot.meter} ({snapshot.basis})  {snapshot.deployment.model_id}  ")
    for name, state in snapshot.sources.items():
        text.append(f" {name}: {'up' if state.up else f'DOWN, {state.reason}'} ", "" if state.up else "bold red")
    for line in snapshot.notes:
        text.append(f"\n{line}", "italic")
    return text


def _diagnosis(snapshot: Snapshot) -> Text:
    now = snapshot.now
    if now.bound_by is None:
        return Text(now.missing.get("bound_by", "nothing shows what binds it"))
    after = f", then {now.next_bound.value}" if now.next_bound else ""
    text = Text(f"bound by {now.bound_by.value}{after}", "bold")
    if now.finding is not None:
        text.append(f"\n{now.finding.cause}: {now.finding.lever}", "")
    return text


def show(agent: Agent, ends_s: float | None) -> None:
    """Show the view until someone quits or the time is over; the agent ticks meanwhile.

    Raises:
        ArithmeticError: The bill no longer adds up.
    """
    stop = threading.Event()
    failed: list[BaseException] = []
    view = WatchView(agent, ends_s)

    def tick() -> None:
        try:
            agent.run(stop)
        except BaseException as error:  # noqa: BLE001 - it is raised again where it can be shown
            failed.append(error)
            view.call_from_thread(view.exit)

    thread = threading.Thread(target=tick, name="joulemap-agent", daemon=True)
    thread.start()
    try:
        view.run()
    finally:
        stop.set()
        thread.join(10.0)
    if failed:
        raise failed[0]
