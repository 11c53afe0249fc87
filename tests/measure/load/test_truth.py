"""What the client reports is what the server did."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from joulemap.errors import ServerError
from joulemap.measure.load import probe
from joulemap.measure.load.arrivals import due_times
from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.handle import run_load
from joulemap.measure.load.ledger import Progress
from joulemap.measure.load.lengths import FixedLength
from joulemap.measure.load.pictures import Pictures
from joulemap.measure.load.plan import ClosedLoop, LoadPlan, OpenLoop
from joulemap.measure.load.probe import find_token_ratio
from joulemap.measure.load.prompts import ImagePrompts, SyntheticPrompts
from joulemap.measure.load.result import LoadResult
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.load.trace import RequestTrace
from joulemap.measure.load.window import content_times, evaluate, full_span
from joulemap.measure.mock_server import MockBehaviour, MockServerProcess
from tests.measure.load.loads import PATIENT, SHORT, load_of, plan_of, swift, target_of


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_a_streamed_reply_is_timed_and_counted(endpoint: Endpoint) -> None:
    result = load_of(MockBehaviour(ttft_s=0.1, itl_s=0.02, tokens=10), plan_of(24), endpoint=endpoint)
    requests = result.requests
    assert requests["error"].null_count() == len(requests) == 24
    assert requests["output_tokens"].to_list() == [10] * 24
    assert requests["chunks"].to_list() == [10] * 24
    # The server never sends before its time; afterwards, only as late as a busy machine makes it. The best fifth of
    # the requests is looked at: it shows the client's own error, the others the machine's.
    ttfts_s, decodes_s = np.sort(requests["ttft_s"].to_numpy()), requests["decode_s"].to_numpy()
    assert ttfts_s[0] >= 0.1
    assert ttfts_s[len(ttfts_s) // 5] < 0.15
    off_s = np.sort(np.abs(decodes_s - 9 * 0.02))
    assert off_s[len(off_s) // 5] < 0.03
    off_s = np.sort(np.abs(result.gaps_s - 0.02))
    assert off_s[len(off_s) // 5] < 0.004
    assert (requests["latency_s"] >= requests["ttft_s"] + requests["decode_s"]).all()


def test_role_only_and_finish_chunks_are_no_tokens() -> None:
    with_role, without = load_of(swift(role_first=1)), load_of(swift(role_first=0))
    for result in (with_role, without):
        assert result.requests["chunks"].to_list() == [10] * 8
        # The role-only chunk comes at once; the first content only after the TTFT.
        assert float(result.requests["ttft_s"].min() or 0) >= 0.02  # type: ignore[arg-type]


def test_chunks_of_several_tokens_are_counted_by_usage() -> None:
    result = load_of(swift(tokens=12, tokens_per_chunk=4))
    assert result.requests["chunks"].to_list() == [3] * 8
    assert result.requests["output_tokens"].to_list() == [12] * 8
    window = evaluate(result, result.started_s, result.stopped_s + 10)
    assert window.output_tokens == pytest.approx(8 * 12)
    assert window.tokens_per_chunk == pytest.approx(4.0)
    assert "chunks hold 4.00 tokens" in window.notes[0]


def test_without_usage_the_count_is_missing_not_guessed() -> None:
    result = load_of(swift(send_usage=0))
    assert result.requests["output_tokens"].null_count() == 8
    window = evaluate(result, result.started_s, result.stopped_s + 10)
    assert "no token count for 8 requests" in window.notes[0]
    assert "assumed" in window.notes[0]


def test_images_are_counted_and_timed() -> None:
    plan = replace(plan_of(4, concurrency=2), prompts=ImagePrompts(images_per_request=2))
    result = load_of(swift(image_s=0.05), plan, endpoint=Endpoint.IMAGES)
    assert result.requests["images"].to_list() == [2] * 4
    assert result.requests["ttft_s"].null_count() == 4
    assert result.requests["latency_s"].is_between(0.09, 1.0).all()
    assert evaluate(result, result.started_s, result.stopped_s + 1).images == 8


def test_a_load_that_is_stopped_keeps_requests_in_flight_as_unfinished() -> None:
    async def stopped() -> tuple[float, list[Progress]]:
        stop = asyncio.Event()
        states: list[Progress] = []
        asyncio.get_running_loop().call_later(0.6, stop.set)
        plan = LoadPlan(arrivals=ClosedLoop(concurrency=3), prompts=SHORT)
        result = await run_load(plan, target_of(server.url), stop=stop, on_progress=states.append)
        unfinished = result.requests.filter(pl.col("error") == ErrorKind.UNFINISHED)
        assert len(unfinished) == 3
        assert unfinished["chunks"].min() > 5  # type: ignore[operator]
        assert result.failures == {}
        return result.stopped_s - result.started_s, states

    with MockServerProcess(swift(tokens=1000)) as server:
        took_s, states = asyncio.run(stopped())
    assert 0.5 < took_s < 3.0  # the streams themselves would have run for four seconds
    assert max(state.in_flight for state in states) == 3
    assert states[-1].tokens_so_far == states[-1].content_chunks
    assert states[-1].content_chunks > states[2].content_chunks > 0


def test_the_achieved_batch_is_full_between_ramp_and_drain() -> None:
    plan = LoadPlan(arrivals=ClosedLoop(concurrency=8, ramp_s=0.2), prompts=SHORT, duration_s=1.5, limits=PATIENT)
    result = load_of(swift(), plan)
    span = full_span(result)
    assert span is not None
    assert span[0] >= result.started_s + 0.17
    assert span[1] <= result.stopped_s
    window = evaluate(result, *span)
    assert window.in_flight == pytest.approx(8, rel=0.06)
    # Little's law: throughput × latency = requests in flight.
    assert window.latency is not None
    rate = window.completed / (window.end_s - window.start_s)
    assert rate * window.latency.mean_s == pytest.approx(window.in_flight, rel=0.15)
    assert full_span(result, target=9) is None


def test_content_times_are_rebuilt_from_first_contents_and_gaps() -> None:
    result = load_of(swift())
    times, rows = content_times(result)
    assert times.size == 80
    for row, request in enumerate(result.requests.iter_rows(named=True)):
        own = times[rows == row] - request["start_s"]
        assert own[0] == pytest.approx(request["ttft_s"], abs=1e-6)
        assert own[-1] == pytest.approx(request["ttft_s"] + request["decode_s"], abs=1e-5)
        assert (np.diff(own) >= 0).all()


def test_an_overrun_open_loop_is_invalid_rather_than_wrong() -> None:
    plan = LoadPlan(
        arrivals=OpenLoop(rate_per_s=100, max_in_flight=2), prompts=SHORT, duration_s=1.0, limits=PATIENT
    )
    result = load_of(swift(), plan)
    window = evaluate(result, result.started_s + 0.3, result.stopped_s)
    assert any("later than due" in reason for reason in window.reasons)


def test_a_closed_loop_that_is_never_full_is_invalid() -> None:
    result = load_of(swift(), plan_of(4, concurrency=8))
    window = evaluate(result, result.started_s, result.stopped_s)
    assert any("of 8 requests were in flight" in reason for reason in window.reasons)


def test_a_client_that_did_not_keep_up_is_invalid() -> None:
    result = load_of(swift(), plan_of(40))
    slow = result.samples.with_columns(pl.lit(0.2).alias("lag_s"), (pl.col("time_s") * 0.97).alias("cpu_s"))
    window = evaluate(replace(result, samples=slow), result.started_s, result.stopped_s)
    assert any("lagged by 200.0 ms" in reason for reason in window.reasons)
    assert any("was saturated: it used 97% of a core" in reason for reason in window.reasons)


def test_a_client_that_lagged_once_is_noted_but_valid() -> None:
    result = load_of(swift(), plan_of(40))
    calm = [0.0] * result.samples.height
    once = result.samples.with_columns(pl.Series("lag_s", [*calm[:-1], 0.2]), pl.lit(0.0).alias("cpu_s"))
    often = once.with_columns(pl.Series("lag_s", [0.2, 0.2, *calm[2:]]))
    # As many looks as a longer load has: one of them is less than a twentieth, two of the original are more.
    longer = pl.concat([once.with_columns(lag_s=0.0)] * 19 + [once])
    times_s = result.samples["time_s"].to_numpy()
    span = float(times_s.min()) - 1.0, float(times_s.max()) + 1.0
    noted = evaluate(replace(result, samples=longer), *span)
    assert not any("lagged" in reason for reason in noted.reasons)
    assert any("lagged at times, by 200 ms" in note for note in noted.notes)
    assert any("lagged by" in reason for reason in evaluate(replace(result, samples=often), *span).reasons)


def test_an_open_loop_begins_its_requests_when_they_are_due() -> None:
    plan = LoadPlan(arrivals=OpenLoop(rate_per_s=40), prompts=SHORT, max_requests=40, limits=PATIENT, seed=5)
    result = load_of(swift(), plan)
    requests = result.requests.sort("request_id")
    due_s = np.array(list(itertools.islice(due_times(plan), 40))) + result.started_s
    assert requests["scheduled_s"].to_numpy() == pytest.approx(due_s)
    delays_s = requests["start_s"].to_numpy() - due_s
    assert delays_s.min() >= 0
    assert np.median(delays_s) < 0.02
    assert result.in_flight_target is None
    assert full_span(result) == (result.started_s, result.stopped_s)


def test_a_replay_keeps_the_traces_times_and_lengths() -> None:
    trace = RequestTrace(offsets_s=(0.0, 0.4, 0.5), input_tokens=(20, 10, 30), output_tokens=(3, 7, 5))
    plan = LoadPlan(arrivals=trace.replay(speed=2.0), prompts=trace.prompts(), limits=PATIENT)
    requests = load_of(swift(tokens=0), plan).requests.sort("request_id")
    assert requests["output_tokens"].to_list() == [3, 7, 5]
    assert (requests["input_tokens"] - 8).to_list() == [25, 12, 38]  # words × 1.25, rounded to even
    due_s = requests["scheduled_s"] - requests["scheduled_s"][0]
    assert due_s.to_list() == pytest.approx([0.0, 0.2, 0.25])
    assert (requests["start_s"] >= requests["scheduled_s"]).all()
    assert (requests["start_s"] - requests["scheduled_s"]).min() < 0.05  # type: ignore[operator]


def test_pictures_travel_with_chat_requests() -> None:
    pictures = Pictures(width_px=64, height_px=64, images=2, video_frames=2)
    plan = replace(plan_of(4), prompts=replace(SHORT, pictures=pictures))
    requests = load_of(swift(), plan).requests
    assert requests["error"].null_count() == 4
    assert requests["input_tokens"].to_list() == [round(12 * 1.25) + 3 * 256 + 8] * 4


def test_a_servers_token_count_calibrates_the_prompts() -> None:
    with MockServerProcess(swift()) as server:
        target = target_of(server.url)
        ratio = find_token_ratio(target)
        assert ratio is not None
        assert (ratio.tokens_per_word, ratio.template_tokens) == (1.25, 8.0)
        prompts = replace(SHORT, input_tokens=FixedLength(508)).calibrated(ratio)
        result = asyncio.run(run_load(replace(plan_of(4), prompts=prompts), target))
    assert result.requests["input_tokens"].to_list() == [508] * 4
    with MockServerProcess(swift(send_usage=0)) as server:
        assert find_token_ratio(target_of(server.url)) is None


def test_the_first_questions_ask_for_more_than_a_piece_of_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply of one token may be no text yet: one in thirty of the embedded engine's is not."""
    asked: list[LoadPlan] = []

    async def spy(plan: LoadPlan, target: Target) -> LoadResult:
        asked.append(plan)
        return await run_load(plan, target)

    monkeypatch.setattr(probe, "run_load", spy)
    with MockServerProcess(swift()) as server:
        assert find_token_ratio(target_of(server.url)) is not None
    assert len(asked) == 2
    for plan in asked:
        assert isinstance(plan.prompts, SyntheticPrompts)
        assert plan.prompts.output_tokens == FixedLength(8)


def test_a_server_that_fails_the_first_question_is_named() -> None:
    with (
        MockServerProcess(swift(fault="500")) as server,
        pytest.raises(ServerError, match="did not answer a first request: http_5xx: HTTP 500: engine is dead"),
    ):
        find_token_ratio(target_of(server.url))
