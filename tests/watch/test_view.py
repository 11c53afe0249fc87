"""The live view in a terminal of textual's own, fed by an agent whose time is moved by hand."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from textual.widgets import DataTable, Static

from joulemap.cli.watch_lines import line_of
from joulemap.cli.watch_totals import bill_rows, print_totals
from joulemap.cli.watch_view import WatchView
from joulemap.errors import ServerError
from joulemap.watch.bill import AccountTotal
from joulemap.watch.requests import Account
from tests.watch.conftest import MakeRig
from tests.watch.rig import Rig, steady


def shown(view: WatchView, name: str) -> str:
    return str(view.query_one(f"#{name}", Static).content)


def rows(view: WatchView, name: str) -> list[list[str]]:
    table = view.query_one(f"#{name}", DataTable)
    return [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]


def test_the_view_shows_what_the_agent_knows_and_what_is_down(make_rig: MakeRig) -> None:
    rig = make_rig(steady(300))
    rig.run(120)

    async def look() -> None:
        view = WatchView(rig.agent)
        async with view.run_test(size=(140, 50)) as pilot:
            await pilot.pause()
            assert shown(view, "energy").splitlines()[:2] == ["J/token", "2"]
            assert shown(view, "power").splitlines() == ["W", "400", "measured"]
            assert shown(view, "throughput").splitlines() == ["token/s", "200"]
            assert shown(view, "starved").splitlines()[2] == "modelled"
            assert "engine: up" in shown(view, "sources")
            assert "bound by" in shown(view, "finding")
            ledger = rows(view, "ledger")
            assert {"static_working", "weight_traffic"} <= {row[0] for row in ledger}
            assert {"red /chat", "blue /chat"} <= {row[0] for row in rows(view, "bill")}
            rig.engine.error = ServerError("it [bold]hangs[/bold]")
            rig.run(70)
            view.refresh_view()
            await pilot.pause()
            assert "engine: DOWN, it [bold]hangs[/bold]" in shown(view, "sources")
            assert shown(view, "energy").splitlines()[1] == "–"
            await pilot.press("ctrl+c")
        assert view.return_code == 0

    asyncio.run(look())


def test_the_view_ends_when_its_time_is_over(make_rig: MakeRig) -> None:
    rig = make_rig()

    async def look() -> None:
        view = WatchView(rig.agent, time.monotonic() + 0.2)
        async with view.run_test(size=(80, 24)):
            for _ in range(100):
                if not view.is_running:
                    return
                await asyncio.sleep(0.1)
        pytest.fail("the view went on")

    asyncio.run(look())


def test_a_line_tells_basis_and_what_is_down(make_rig: MakeRig) -> None:
    rig = make_rig(steady(300))
    told = rig.run(120)
    line = line_of(told)
    assert "400 W" in line
    assert "J/token" in line
    assert "DOWN" not in line
    assert "(modelled) W" in line  # starved watts
    rig.gpu.lost = True
    line = line_of(rig.run(80))
    assert "METER DOWN: " in line
    assert "– W" in line


def accounts(rig: Rig, count: int) -> list[tuple[Account, AccountTotal]]:
    return [(Account(tenant=f"t{i}"), AccountTotal(decode_energy_j=float(i + 1))) for i in range(count)]


def test_the_bill_sums_to_the_total_however_many_accounts_there_are(make_rig: MakeRig) -> None:
    rig = make_rig()
    told = rig.run(30)
    many = accounts(rig, 30)
    whole = sum(total.energy_j for _, total in many) + 100.0
    totals = replace(
        told.totals,
        accounts=tuple(many),
        work_energy_j=whole,
        idle_energy_j=60.0,
        unattributed_energy_j=30.0,
        pending_energy_j=10.0,
    )
    shares = [float(row[2].rstrip("%")) for row in bill_rows(replace(told, totals=totals))]
    assert sum(shares) == pytest.approx(100.0, abs=1.5)
    assert bill_rows(replace(told, totals=totals))[0][0] == "t29"


def test_nothing_metered_says_why(make_rig: MakeRig, capsys: pytest.CaptureFixture[str]) -> None:
    rig = make_rig()
    print_totals(rig.agent.snapshot)
    assert "nothing was metered" in capsys.readouterr().err


def test_json_is_whole_and_finite(make_rig: MakeRig) -> None:
    told = make_rig(steady(100)).run(90).to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    parts = told["ledger_w"]["parts"]
    assert sum(parts.values()) == pytest.approx(told["power_w"]["value"], rel=1e-9)
