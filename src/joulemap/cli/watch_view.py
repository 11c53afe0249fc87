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
from joulemap.cli.watch_totals import bill_rows
from joulemap.records import Quantity
from joulemap.watch.agent import Agent
from joulemap.watch.rolling import LedgerPower
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
    .tile { width: 1fr; height: 5; border: round $primary; padding: 0 1; }
    .tile { text-wrap: nowrap; text-overflow: ellipsis; }
    #sources { height: auto; padding: 0 1; }
    #finding { height: auto; padding: 0 1; }
    #power_history { height: 4; margin: 0 1; }
    DataTable { height: auto; margin: 1 1 0 1; }
    """
    BINDINGS: ClassVar[list[Binding | tuple[str, str] | tuple[str, str, str]]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]
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
        self.query_one("#ledger", DataTable).add_columns("where the watts go", "W", "share", "basis")
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
        self._quantity("energy", "J/token", now.energy_per_output, now.missing.get("energy_per_output_j", ""))
        power = [d.power_w for d in snapshot.devices if d.power_w is not None]
        self._quantity("power", "W", now.power, now.missing.get("power_w", ""))
        self._tile("throughput", "token/s", figure(now.output_throughput_per_s), "")
        waiting = "" if now.requests_waiting is None else f"{figure(now.requests_waiting)} waiting"
        self._tile("batch", "batch", figure(now.batch_size), waiting)
        kv = "–" if now.kv_cache_utilization is None else f"{now.kv_cache_utilization:.0%}"
        self._tile("kv", "KV cache", kv, now.missing.get("kv_cache_utilization", ""))
        self._quantity("starved", "W starved", now.starved_power, now.missing.get("starved_power_w", ""))
        self.query_one("#sources", Static).update(_sources(snapshot))
        self.query_one("#finding", Static).update(_diagnosis(snapshot))
        if now.power is not None:
            self._powers.append(sum(power) if power else now.power.value)
            self.query_one("#power_history", Sparkline).data = list(self._powers)
        _fill(self.query_one("#ledger", DataTable), [] if now.ledger is None else _ledger(now.ledger))
        _fill(self.query_one("#bill", DataTable), bill_rows(snapshot) if snapshot.totals.work_energy_j else [])

    def _quantity(self, name: str, title: str, quantity: Quantity | None, missing: str) -> None:
        if quantity is None:
            self._tile(name, title, "–", missing)
            return
        spread = "" if quantity.low is None else f" {figure(quantity.low)}–{figure(quantity.high)}"
        self._tile(name, title, figure(quantity.value), f"{quantity.basis}{spread}")

    def _tile(self, name: str, title: str, value: str, more: str) -> None:
        self.query_one(f"#{name}", Static).update(Text(f"{title}\n{value}\n{more}"))


def _fill(table: DataTable[Text], rows: list[list[str]]) -> None:
    table.clear()
    for row in rows:
        table.add_row(*(Text(cell, justify="right" if i else "left") for i, cell in enumerate(row)))


def _ledger(ledger: LedgerPower) -> list[list[str]]:
    whole = sum(ledger.parts_w.values()) or 1.0
    parts = [(part.value, watts) for part, watts in ledger.parts_w.items() if watts > 0]
    return [[name, figure(watts), f"{watts / whole:.0%}", ledger.basis.value] for name, watts in parts]


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
    text = Text().append(f"bound by {now.bound_by.value}{after}", "bold")
    if now.finding is not None:
        text.append(f"\n{now.finding.cause}: {now.finding.lever}")
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
