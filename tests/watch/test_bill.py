"""Sharing joules: hand-worked cases, conservation whatever comes, late and unlogged requests, bounded accounts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.records import Basis
from joulemap.watch.attribution import (
    ROW,
    Shares,
    Unlogged,
    busy_fraction,
    share_energy,
    work_between,
)
from joulemap.watch.bill import Bill, MeteredInterval
from joulemap.watch.requests import OTHER, Account, ServedRequest
from joulemap.watch.settings import WatchSettings
from joulemap.watch.weights import TokenWeights, assumed_weights

WEIGHTS = TokenWeights(prompt_weight=0.1, output_weight=1.0, context_weight=0.01, basis=Basis.ASSUMED)
NO_CONTEXT = TokenWeights(prompt_weight=0.1, output_weight=1.0, context_weight=0.0, basis=Basis.ASSUMED)


def table(*rows: tuple[int, float, float, float, float, float, float]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    return np.array(list(rows), dtype=ROW)


def request(
    begin_s: float, end_s: float, *, tenant: str = "red", prompt: float = 100, output: float = 100
) -> ServedRequest:
    return ServedRequest(
        account=Account(tenant=tenant),
        begin_unix_s=begin_s,
        first_unix_s=begin_s,
        end_unix_s=end_s,
        prompt_tokens=prompt,
        prefill_tokens=prompt,
        output_tokens=output,
    )


def interval(begin_s: float, energy_j: float | None = 100.0, **more: float | None) -> MeteredInterval:
    told = {"idle_fraction": None, "idle_power_w": None, "prefill_tokens": None, "output_tokens": None, **more}
    return MeteredInterval(begin_s=begin_s, end_s=begin_s + 10.0, energy_j=energy_j, weights=NO_CONTEXT, **told)


def bill(**more: float) -> Bill:
    settings = {"settle_s": 30.0, **more}
    return Bill(WatchSettings(**settings), logged=True)  # type: ignore[arg-type]


def tenants(told: Bill) -> dict[str, float]:
    return {account.tenant: total.energy_j for account, total in told.accounts}


def test_work_of_a_request_that_spans_intervals() -> None:
    # Prefill from 0 to 4 s, decoding from 4 to 24 s: 200 tokens of it, after a prompt of 1,000.
    rows = table((0, 0.0, 4.0, 24.0, 1000.0, 400.0, 200.0))
    first, second, third = (work_between(rows, begin, begin + 10.0) for begin in (0.0, 10.0, 20.0))
    assert first.prefill_tokens.tolist() == [400.0]
    assert first.output_tokens.tolist() == [60.0]
    assert second.output_tokens.tolist() == [100.0]
    assert third.output_tokens.tolist() == [pytest.approx(40.0)]
    # Between 10 and 20 s the reply grows from 60 to 160 tokens: each reads 1,110 on average.
    assert second.context_tokens.tolist() == [pytest.approx(100 * 1110.0)]


def test_shares_of_a_hand_worked_interval() -> None:
    # A had a prompt of 100 and no output, B 30 outputs at a context of 100: costs 10 and 30 + 30.
    rows = table((0, 0.0, 10.0, 20.0, 100.0, 100.0, 50.0), (1, -10.0, -10.0, 10.0, 85.0, 85.0, 60.0))
    work = work_between(rows, 0.0, 10.0)
    assert work.output_tokens.tolist() == [0.0, 30.0]
    assert work.context_tokens.tolist() == [0.0, pytest.approx(30 * 130.0)]
    shares = share_energy(500.0, 20.0, work, Unlogged(), WEIGHTS)
    a, b = 0.1 * 100, 30.0 + 0.01 * 30 * 130
    assert shares.prefill_j.tolist() == [pytest.approx(480 * a / (a + b)), 0.0]
    assert shares.decode_j.tolist() == [0.0, pytest.approx(480 * b / (a + b))]
    assert shares.unattributed_j == 0.0
    assert shares.idle_j == 20.0


def test_unlogged_work_takes_its_share() -> None:
    rows = table((0, 0.0, 0.0, 10.0, 0.0, 0.0, 100.0))
    shares = share_energy(400.0, 0.0, work_between(rows, 0.0, 10.0), Unlogged(output_tokens=300.0), NO_CONTEXT)
    assert shares.decode_j.tolist() == [pytest.approx(100.0)]
    assert shares.unattributed_j == pytest.approx(300.0)


def test_shares_that_do_not_add_up_are_refused() -> None:
    parts = np.array([10.0])
    with pytest.raises(ArithmeticError, match="not to 100"):
        Shares(energy_j=100.0, idle_j=0.0, unattributed_j=0.0, prefill_j=parts, decode_j=parts)
    with pytest.raises(ArithmeticError, match="negative"):
        Shares(energy_j=10.0, idle_j=-10.0, unattributed_j=0.0, prefill_j=parts, decode_j=parts)


times = st.floats(-30.0, 40.0)
tokens = st.floats(0.0, 1e6)


@given(
    rows=st.lists(st.tuples(times, st.floats(0, 20), st.floats(0, 50), tokens, tokens), max_size=20),
    energy_j=st.floats(0.0, 1e9),
    idle_share=st.floats(0.0, 1.0),
    other=tokens,
)
def test_shares_are_conserved_whatever_comes(
    rows: list[tuple[float, float, float, float, float]], energy_j: float, idle_share: float, other: float
) -> None:
    made = [(0, b, b + p, b + p + d, prompt, prompt, output) for b, p, d, prompt, output in rows]
    work = work_between(table(*made), 0.0, 10.0)
    shares = share_energy(energy_j, idle_share * energy_j, work, Unlogged(output_tokens=other), WEIGHTS)
    parts = (shares.idle_j, shares.unattributed_j, *shares.prefill_j.tolist(), *shares.decode_j.tolist())
    assert math.fsum(parts) == pytest.approx(energy_j, rel=1e-9, abs=1e-9)
    assert 0.0 <= busy_fraction(table(*made), 0.0, 10.0) <= 1.0 + 1e-12


@given(
    st.lists(st.tuples(times, st.floats(0, 20), st.floats(0, 50), tokens, tokens), min_size=1, max_size=20),
    st.lists(st.floats(-25.0, 90.0), min_size=2, max_size=6, unique=True),
)
def test_the_parts_of_a_request_in_adjacent_intervals_sum_to_it(
    rows: list[tuple[float, float, float, float, float]], edges: list[float]
) -> None:
    made = table(*((0, b, b + p, b + p + d, prompt, prompt, output) for b, p, d, prompt, output in rows))
    ends = [-100.0, *sorted(edges), 200.0]
    parts = [work_between(made, begin, end) for begin, end in itertools.pairwise(ends)]
    prefilled = sum(part.prefill_tokens for part in parts)
    decoded = sum(part.output_tokens for part in parts)
    assert prefilled == pytest.approx(made["prefill_tokens"], rel=1e-6, abs=1e-6)
    assert decoded == pytest.approx(made["output_tokens"], rel=1e-6, abs=1e-6)


def test_busy_time_is_that_of_the_union() -> None:
    rows = table((0, 1.0, 1.0, 4.0, 0, 0, 0), (0, 2.0, 2.0, 3.0, 0, 0, 0), (0, 6.0, 6.0, 99.0, 0, 0, 0))
    assert busy_fraction(rows, 0.0, 10.0) == pytest.approx(0.7)
    assert busy_fraction(rows[:0], 0.0, 10.0) == 0.0


def test_an_interval_waits_for_the_lines_of_its_requests() -> None:
    told = bill()
    told.add_interval(interval(0.0))
    told.settle(20.0)
    assert told.pending_energy_j == 100.0
    told.add_requests([request(100.0, 110.0), request(100.0, 110.0, tenant="blue", output=300)], 100.0)
    told.settle(40.0)
    assert told.pending_energy_j == 0.0
    assert tenants(told) == {"red": pytest.approx(100 * 110 / 420), "blue": pytest.approx(100 * 310 / 420)}
    told.check()


def test_a_late_line_is_told_and_its_joules_are_unattributed() -> None:
    told = bill()
    told.add_interval(interval(0.0, prefill_tokens=100.0, output_tokens=100.0))
    told.settle(40.0)
    told.add_requests([request(0.0, 9.0)], 0.0)
    assert told.late_requests == 1
    assert told.unattributed_energy_j == 100.0
    assert told.accounts == []


def test_requests_beyond_what_may_wait_are_told() -> None:
    told = bill(max_pending_requests=2)
    told.add_requests([request(0.0, 9.0)] * 5, 0.0)
    assert told.dropped_requests == 3


def test_a_surplus_of_the_log_is_carried_on() -> None:
    """200 tokens are logged evenly over 20 s; the engine counted 50 in the first half and 150 in the second."""
    told = bill()
    told.add_requests([request(0.0, 20.0, prompt=0, output=200)], 0.0)
    told.add_interval(interval(0.0, prefill_tokens=0.0, output_tokens=50.0))
    told.add_interval(interval(10.0, prefill_tokens=0.0, output_tokens=150.0))
    told.settle(60.0)
    assert told.unattributed_energy_j == 0.0
    assert tenants(told) == {"red": pytest.approx(200.0)}


def test_accounts_are_bounded_and_the_rest_is_billed_together() -> None:
    told = bill(max_accounts=3)
    told.add_requests([request(0.0, 10.0, tenant=f"t{i}") for i in range(1000)], 0.0)
    told.add_interval(interval(0.0))
    told.add_interval(interval(10.0, None))
    told.settle(60.0)
    assert len(told.accounts) == 4
    assert told.accounts[-1][0] == OTHER
    assert tenants(told)["(other)"] == pytest.approx(100.0 * 997 / 1000)
    assert told.accounts[-1][1].requests == 997


def test_a_tenant_who_takes_the_name_of_the_others_gets_no_more_accounts() -> None:
    told = bill(max_accounts=1)
    told.add_requests([request(0.0, 9.0, tenant=t) for t in ("(other)", "a", "b")], 0.0)
    assert len(told.accounts) <= 2


def test_time_that_was_not_metered_is_not_billed_and_its_requests_are_let_go() -> None:
    told = bill()
    told.add_interval(interval(0.0, None))
    told.add_interval(interval(10.0))
    told.add_requests([request(1.0, 8.0), request(12.0, 18.0, tenant="blue")], 0.0)
    told.settle(60.0)
    assert told.energy_j == 100.0
    assert tenants(told)["red"] == 0.0
    assert sum(total.requests for _, total in told.accounts) == 2
    told.check()


def test_idle_energy_at_idle_power_and_by_time_without_it() -> None:
    by_power, by_time = bill(), bill()
    for told, idle_w in ((by_power, 2.0), (by_time, None)):
        told.add_requests([request(5.0, 10.0)], 0.0)
        told.add_interval(interval(0.0, idle_power_w=idle_w, prefill_tokens=100.0, output_tokens=100.0))
        told.settle(60.0)
    assert by_power.idle_energy_j == pytest.approx(10.0)
    assert by_time.idle_energy_j == pytest.approx(50.0)


def test_an_engine_that_cannot_be_read_is_not_called_idle() -> None:
    told = bill()
    told.add_interval(interval(0.0))
    told.settle(60.0)
    assert told.idle_energy_j == 0.0
    assert told.unattributed_energy_j == 100.0


def test_a_bill_that_does_not_add_up_stops() -> None:
    told = bill()
    told.add_interval(interval(0.0))
    told.energy_j += 1.0
    with pytest.raises(ArithmeticError, match="metered"):
        told.settle(60.0)


def test_the_assumed_weights_are_cited_and_relative_to_an_output_token() -> None:
    weights = assumed_weights()
    assert weights.basis is Basis.ASSUMED
    assert 0 < weights.prompt_weight < weights.output_weight == 1.0
    assert 0 < weights.context_weight < 1e-3
