"""Each fault of a server gives an error by its name, and what was measured before it is kept."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace

import pytest

from joulemap.errors import ServerError
from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.handle import run_load
from joulemap.measure.load.plan import ClosedLoop, Limits, LoadPlan
from joulemap.measure.load.result import LoadResult
from joulemap.measure.mock_server import Fault, MockServerProcess
from tests.measure.load.loads import PATIENT, SHORT, load_of, plan_of, swift, target_of

CHUNKS_BEFORE = 4


def kinds(result: LoadResult) -> set[str | None]:
    return set(result.requests["error"].to_list())


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.CLOSE_EARLY, ErrorKind.CLOSED_EARLY),
        (Fault.CLEAN_CUT, ErrorKind.CLOSED_EARLY),
        (Fault.HALF_CHUNK, ErrorKind.HALF_CHUNK),
        (Fault.GARBAGE_JSON, ErrorKind.GARBAGE_JSON),
        (Fault.ERROR_EVENT, ErrorKind.ERROR_EVENT),
    ],
)
def test_a_fault_in_mid_stream_is_named_and_keeps_what_came_before(fault: Fault, kind: ErrorKind) -> None:
    result = load_of(swift(fault=fault, fault_after_chunks=CHUNKS_BEFORE))
    requests = result.requests
    assert kinds(result) == {kind}
    assert requests["chunks"].to_list() == [CHUNKS_BEFORE] * len(requests)
    assert requests["ttft_s"].is_between(0.015, 20.0).all()
    assert result.gaps_s.size == len(requests) * (CHUNKS_BEFORE - 1)
    assert requests["output_tokens"].null_count() == len(requests)
    assert all(detail for detail in requests["error_detail"])


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.TOO_MANY_REQUESTS, ErrorKind.RATE_LIMITED, "HTTP 429: rate limit reached"),
        (Fault.SERVER_ERROR, ErrorKind.SERVER_FAILED, "HTTP 500: engine is dead"),
        (Fault.NOT_HTTP, ErrorKind.NOT_HTTP, ""),
        (Fault.NO_CONTENT, ErrorKind.NO_CONTENT, "no content"),
    ],
)
def test_a_fault_instead_of_a_stream_is_named(fault: Fault, kind: ErrorKind, words: str) -> None:
    result = load_of(swift(fault=fault))
    assert kinds(result) == {kind}
    assert words in result.requests["error_detail"][0]
    assert result.requests["ttft_s"].null_count() == len(result.requests)


def test_every_other_request_may_fail_without_harm_to_its_neighbours() -> None:
    result = load_of(swift(fault=Fault.SERVER_ERROR, fault_every=2), plan_of(12, concurrency=1))
    good = result.requests.filter(result.requests["error"].is_null())
    assert result.failures == {ErrorKind.SERVER_FAILED: 6}
    assert good["output_tokens"].to_list() == [10] * 6


def test_a_hung_stream_is_given_up_after_the_stated_time() -> None:
    plan = replace(plan_of(2), limits=replace(PATIENT, stall_s=0.3))
    result = load_of(swift(fault=Fault.HANG, fault_after_chunks=CHUNKS_BEFORE), plan)
    assert kinds(result) == {ErrorKind.STALLED}
    assert result.requests["chunks"].to_list() == [CHUNKS_BEFORE] * 2
    assert result.requests["latency_s"].is_between(0.3, 20.0).all()  # not the 60 s that are allowed by default


def test_a_server_that_never_begins_to_answer_is_given_up_after_the_stated_time() -> None:
    plan = replace(plan_of(2), limits=replace(PATIENT, first_token_s=0.3))
    result = load_of(swift(fault=Fault.HANG, fault_after_chunks=0), plan)
    assert kinds(result) == {ErrorKind.NO_FIRST_TOKEN}


def test_a_reply_that_takes_too_long_is_given_up_although_it_progresses() -> None:
    plan = replace(plan_of(2), limits=replace(PATIENT, request_s=1.0))
    result = load_of(swift(tokens=10_000), plan)
    assert kinds(result) == {ErrorKind.TIMEOUT}
    assert result.requests["chunks"].min() > 10  # type: ignore[operator]


def test_a_server_that_dies_in_mid_run_ends_the_load_and_keeps_what_was_complete() -> None:
    plan = LoadPlan(
        arrivals=ClosedLoop(concurrency=4), prompts=SHORT, duration_s=30.0, limits=Limits(failures_in_a_row=8)
    )
    began = time.monotonic()
    result = load_of(swift(fault=Fault.DIE, fault_after_chunks=95), plan)
    assert time.monotonic() - began < 15
    assert 4 <= result.requests["error"].null_count() <= 9
    assert {ErrorKind.CLOSED_EARLY, ErrorKind.REFUSED} <= set(result.failures)
    assert "8 requests in a row failed" in result.reasons[0]


def test_nothing_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    plan = replace(plan_of(4), limits=replace(PATIENT, failures_in_a_row=4))
    result = asyncio.run(run_load(plan, target_of(f"http://127.0.0.1:{port}")))
    assert kinds(result) == {ErrorKind.REFUSED}


def test_an_unknown_host_is_told_at_once() -> None:
    with pytest.raises(ServerError, match="unknown"):
        asyncio.run(run_load(plan_of(), target_of("http://no-such-host.invalid:8000")))


def test_a_plain_server_where_tls_is_expected() -> None:
    with MockServerProcess(swift()) as server:
        result = asyncio.run(run_load(plan_of(2), target_of(server.url.replace("http:", "https:"))))
    assert kinds(result) == {ErrorKind.TLS}


def test_a_server_without_done_is_complete_all_the_same() -> None:
    result = load_of(swift(send_done=0))
    assert kinds(result) == {None}


def test_a_server_that_breaks_its_promise_to_keep_the_connection_loses_no_request() -> None:
    result = load_of(swift(keep_alive=-1), plan_of(12, concurrency=2))
    assert kinds(result) == {None}
    assert len(result.requests) == 12


def test_failures_are_not_repeated_in_haste() -> None:
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=1), prompts=SHORT, duration_s=1.0, limits=PATIENT)
    result = load_of(swift(fault=Fault.SERVER_ERROR), plan)
    assert 2 <= len(result.requests) <= 8
