"""The bill: every metered joule is pending, idle, unattributed, or some account's; the code checks the sum."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from joulemap.watch.attribution import (
    ROW,
    Shares,
    Unlogged,
    WorkDone,
    busy_fraction,
    share_energy,
    work_between,
)
from joulemap.watch.requests import OTHER, Account, ServedRequest
from joulemap.watch.settings import WatchSettings
from joulemap.watch.weights import TokenWeights

BALANCE_TOLERANCE = 1e-9
ROOM = 1024
DUST_TOKENS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredInterval:
    """An interval whose joules are to be shared."""

    begin_s: float
    end_s: float
    energy_j: float | None
    """``None`` where the meter did not cover it: nothing of it is billed."""
    idle_fraction: float | None
    """Share of the time in which the engine says that it had nothing to do; ``None`` where it does not say."""
    idle_power_w: float | None
    """Power without any request, where it was seen."""
    prefill_tokens: float | None
    """Prompt tokens that the engine worked on, by its counters; ``None`` where they could not be had."""
    output_tokens: float | None
    weights: TokenWeights


@dataclass(slots=True, kw_only=True)
class AccountTotal:
    """What one account has used so far."""

    prefill_energy_j: float = 0.0
    decode_energy_j: float = 0.0
    prompt_tokens: float = 0.0
    """Those not found in the prefix cache."""
    output_tokens: float = 0.0
    requests: int = 0

    @property
    def energy_j(self) -> float:
        """All joules of the account."""
        return self.prefill_energy_j + self.decode_energy_j


class Bill:
    """Shares intervals among requests once both can be known; memory does not grow with time.

    Args:
        settings: How long to wait for requests, how many, and how many accounts.
        logged: Whether requests are told at all; without, intervals are settled at once.
    """

    def __init__(self, settings: WatchSettings, *, logged: bool) -> None:
        self._settings = settings
        self._logged = logged
        self._intervals: deque[MeteredInterval] = deque()
        self._table: NDArray[np.void] = np.zeros(ROOM, dtype=ROW)
        self._used = 0
        self._codes: dict[Account, int] = {}
        self._surplus = Unlogged()
        self._settled_until_s = -math.inf
        self.accounts: list[tuple[Account, AccountTotal]] = []
        self.energy_j = 0.0
        self.idle_energy_j = 0.0
        self.unattributed_energy_j = 0.0
        self.late_requests = 0
        """Logged after their intervals had been settled: their joules are unattributed."""
        self.dropped_requests = 0
        """Beyond what may wait: their joules are unattributed."""

    @property
    def pending_energy_j(self) -> float:
        """Joules of intervals that are not settled yet."""
        return math.fsum(i.energy_j or 0.0 for i in self._intervals)

    @property
    def attributed_energy_j(self) -> float:
        """Joules of all accounts."""
        return math.fsum(total.energy_j for _, total in self.accounts)

    def copied_accounts(self) -> tuple[tuple[Account, AccountTotal], ...]:
        """Return the accounts as they are now; later joules do not change them."""
        return tuple((account, replace(total)) for account, total in self.accounts)

    def check(self) -> None:
        """Make sure that every metered joule is somewhere.

        Raises:
            ArithmeticError: The parts do not add up to what was metered.
        """
        parts = (self.pending_energy_j, self.idle_energy_j, self.unattributed_energy_j, self.attributed_energy_j)
        if not math.isclose(math.fsum(parts), self.energy_j, rel_tol=BALANCE_TOLERANCE, abs_tol=BALANCE_TOLERANCE):
            msg = f"the bill sums to {math.fsum(parts)!r} J, not to the {self.energy_j!r} J that were metered"
            raise ArithmeticError(msg)

    def add_requests(self, requests: Sequence[ServedRequest], wall_offset_s: float) -> None:
        """Take note of finished requests.

        Args:
            requests: As logged.
            wall_offset_s: Seconds since 1970 less monotonic time, now.
        """
        for request in requests:
            end_s = request.end_unix_s - wall_offset_s
            if end_s <= self._settled_until_s:
                self.late_requests += 1
                continue
            if self._used >= self._settings.max_pending_requests:
                self.dropped_requests += 1
                continue
            if self._used == len(self._table):
                self._table = np.concatenate((self._table, np.zeros_like(self._table)))
            self._table[self._used] = (
                self._code(request.account),
                request.begin_unix_s - wall_offset_s,
                request.first_unix_s - wall_offset_s,
                end_s,
                request.prompt_tokens,
                request.prefill_tokens,
                request.output_tokens,
            )
            self._used += 1

    def add_interval(self, interval: MeteredInterval) -> None:
        """Take note of an interval; it follows the one before in time."""
        self.energy_j += interval.energy_j or 0.0
        self._intervals.append(interval)

    def settle(self, now_s: float, *, everything: bool = False) -> None:
        """Share the intervals that are old enough, or all of them.

        Raises:
            ArithmeticError: The bill no longer adds up.
        """
        wait_s = self._settings.settle_s if self._logged and not everything else 0.0
        settled = False
        while self._intervals and self._intervals[0].end_s <= now_s - wait_s:
            interval = self._intervals.popleft()
            if interval.energy_j is not None:
                self._settle_one(interval, interval.energy_j)
            self._settled_until_s = interval.end_s
            settled = True
        if settled:
            self._forget()
            self.check()

    def _settle_one(self, interval: MeteredInterval, energy_j: float) -> None:
        begin_s, end_s = interval.begin_s, interval.end_s
        known = self._table[: self._used]
        rows = known[(known["begin_s"] < end_s) & (known["end_s"] >= begin_s)]
        work = work_between(rows, begin_s, end_s)
        unlogged = self._unlogged(interval, float(work.prefill_tokens.sum()), float(work.output_tokens.sum()))
        idle = self._idle_fraction(interval, busy_fraction(rows, begin_s, end_s), unlogged)
        shares = share_energy(energy_j, _idle_energy(interval, energy_j, idle), work, unlogged, interval.weights)
        self._book(rows["account"], shares, work)

    def _unlogged(self, interval: MeteredInterval, prefilled: float, decoded: float) -> Unlogged:
        """Return what the engine counted beyond the log.

        Tokens are spread evenly over a request's time, so that one interval may have more in the log than were
        counted and the next fewer: a surplus is carried on, up to what one interval holds.
        """
        if interval.prefill_tokens is None or interval.output_tokens is None:
            return Unlogged()
        prefill = interval.prefill_tokens - prefilled - self._surplus.prefill_tokens
        output = interval.output_tokens - decoded - self._surplus.output_tokens
        self._surplus = Unlogged(
            prefill_tokens=min(max(0.0, -prefill), prefilled), output_tokens=min(max(0.0, -output), decoded)
        )
        # Less than this is rounding: tokens come whole.
        return Unlogged(
            prefill_tokens=prefill if prefill > DUST_TOKENS else 0.0,
            output_tokens=output if output > DUST_TOKENS else 0.0,
        )

    def _idle_fraction(self, interval: MeteredInterval, busy: float, unlogged: Unlogged) -> float:
        if busy == 0.0:
            return interval.idle_fraction or 0.0  # where neither engine nor log tells, it may have worked
        if unlogged.output_tokens > 0 or unlogged.prefill_tokens > 0:
            return 0.0  # somebody else was served, and nothing says when
        return 1.0 - busy

    def _book(self, codes: NDArray[np.int64], shares: Shares, work: WorkDone) -> None:
        self.idle_energy_j += shares.idle_j
        self.unattributed_energy_j += shares.unattributed_j
        columns = (shares.prefill_j, shares.decode_j, work.prefill_tokens, work.output_tokens)
        sums = [np.bincount(codes, weights=values) for values in columns]
        for code in np.unique(codes).tolist():
            total = self.accounts[code][1]
            total.prefill_energy_j += float(sums[0][code])
            total.decode_energy_j += float(sums[1][code])
            total.prompt_tokens += float(sums[2][code])
            total.output_tokens += float(sums[3][code])

    def _forget(self) -> None:
        """Drop the requests whose intervals are all settled."""
        known = self._table[: self._used]
        ended = known["end_s"] < self._settled_until_s
        for code, count in zip(*np.unique(known["account"][ended], return_counts=True), strict=True):
            self.accounts[code][1].requests += int(count)
        kept = known[~ended]
        self._table[: len(kept)] = kept
        self._used = len(kept)

    def _code(self, account: Account) -> int:
        code = self._codes.get(account)
        if code is None:
            if len(self._codes) >= self._settings.max_accounts and account != OTHER:
                return self._code(OTHER)
            code = self._codes[account] = len(self.accounts)
            self.accounts.append((account, AccountTotal()))
        return code


def _idle_energy(interval: MeteredInterval, energy_j: float, idle: float) -> float:
    """Return the joules of the time without any request: at idle power where that is known."""
    if idle >= 1.0 or interval.idle_power_w is None:
        return energy_j * min(idle, 1.0)
    return min(energy_j, interval.idle_power_w * idle * (interval.end_s - interval.begin_s))
