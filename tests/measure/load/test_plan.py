"""When requests come, how long they are, and what they say."""

from __future__ import annotations

import base64
import itertools
import json
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.catalog import load_catalog
from joulemap.errors import ImportFileError, UsageError
from joulemap.measure.load.arrivals import due_times, request_numbers, schedule, share_of
from joulemap.measure.load.lengths import (
    FixedLength,
    HistogramLength,
    Lengths,
    ListedLengths,
    LogNormalLength,
)
from joulemap.measure.load.pictures import Pictures, VideoForm, random_png
from joulemap.measure.load.plan import ClosedLoop, LoadPlan, OpenLoop, Replay
from joulemap.measure.load.prompts import (
    DatasetPrompts,
    ImagePrompts,
    Prompts,
    SyntheticPrompts,
    TokenRatio,
    prompts_for,
)
from joulemap.measure.load.target import Endpoint, Target
from joulemap.measure.load.task import task_workload
from joulemap.measure.load.trace import read_trace
from joulemap.records.workload import LengthDistribution, Workload

CHAT = Target(url="http://host:1", model="m")
COMPLETIONS = replace(CHAT, endpoint=Endpoint.COMPLETIONS)


def body_of(
    prompts: Prompts, number: int = 0, *, target: Target = CHAT, extra: Mapping[str, object] | None = None
) -> dict[str, object]:
    body: dict[str, object] = json.loads(prompts.writer(target, extra or {}, 7).body(number))
    return body


def bodies_of(prompts: Prompts, count: int) -> list[dict[str, object]]:
    writer = prompts.writer(CHAT, {}, 7)
    return [json.loads(writer.body(number)) for number in range(count)]


def text_of(body: dict[str, object]) -> str:
    return str(body["messages"][0]["content"])  # type: ignore[index]


@pytest.mark.parametrize("variation", [0.5, 1.0, 2.0])
def test_an_open_loop_has_its_rate_and_its_variation(variation: float) -> None:
    plan = LoadPlan(arrivals=OpenLoop(rate_per_s=20.0, variation=variation))
    gaps = np.diff(list(itertools.islice(due_times(plan), 40_000)))
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.1)


def test_the_same_seed_gives_the_same_arrivals_and_another_one_others() -> None:
    def first(seed: int) -> list[float]:
        return list(itertools.islice(due_times(LoadPlan(arrivals=OpenLoop(rate_per_s=1), seed=seed)), 10))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_no_two_plans_send_the_same_prompts_by_default() -> None:
    # A server that has seen a prompt before answers from its cache, with less energy.
    arrivals = ClosedLoop(concurrency=1)
    assert len({LoadPlan(arrivals=arrivals).seed for _ in range(20)}) > 15


@given(st.integers(1, 200), st.integers(1, 9))
def test_the_workers_together_make_every_request_once(requests: int, workers: int) -> None:
    closed = LoadPlan(arrivals=ClosedLoop(concurrency=4), max_requests=requests)
    numbers = [n for worker in range(workers) for n in request_numbers(closed, worker, workers)]
    assert sorted(numbers) == list(range(requests))
    opened = LoadPlan(arrivals=OpenLoop(rate_per_s=9.0), max_requests=requests, seed=3)
    parts = [entry for worker in range(workers) for entry in schedule(opened, worker, workers)]
    assert sorted(parts) == list(schedule(opened, 0, 1))
    assert sum(share_of(requests, worker, workers) for worker in range(workers)) == requests


def test_a_replay_keeps_recorded_times_at_its_speed() -> None:
    plan = LoadPlan(arrivals=Replay(offsets_s=(5.0, 6.0, 9.0), speed=2.0))
    assert list(due_times(plan)) == [0.0, 0.5, 2.0]


def test_arrivals_that_mean_nothing_are_refused() -> None:
    for wrong in (
        lambda: ClosedLoop(concurrency=0),
        lambda: OpenLoop(rate_per_s=0.0),
        lambda: OpenLoop(rate_per_s=float("inf")),
        lambda: OpenLoop(rate_per_s=1.0, variation=0.0),
        lambda: Replay(offsets_s=()),
        lambda: Replay(offsets_s=(1.0, 0.5)),
        lambda: Replay(offsets_s=(1.0,), speed=0.0),
    ):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(TypeError):
        next(due_times(LoadPlan(arrivals=ClosedLoop(concurrency=1))))


def drawn(lengths: Lengths, count: int = 20_000) -> np.ndarray:
    random = Random(1)
    return np.array([lengths.draw(number, random) for number in range(count)])


def test_lengths_follow_their_distribution() -> None:
    assert set(drawn(FixedLength(7), 10)) == {7}
    normal = drawn(LogNormalLength(mean_tokens=300.0, variation=0.5))
    assert normal.mean() == pytest.approx(300, rel=0.02)
    assert normal.std() == pytest.approx(150, rel=0.05)
    histogram = drawn(HistogramLength(LengthDistribution(edges=(0.0, 10.0, 100.0), counts=(3, 1))))
    assert (histogram <= 10).mean() == pytest.approx(0.75, abs=0.02)
    assert histogram.min() == 1
    assert histogram.max() == 100
    assert drawn(ListedLengths((5, 0, 9)), 5).tolist() == [5, 1, 9, 5, 1]


def test_lengths_that_mean_nothing_are_refused() -> None:
    for wrong in (
        lambda: FixedLength(0),
        lambda: LogNormalLength(mean_tokens=0.0),
        lambda: LogNormalLength(mean_tokens=float("nan")),
        lambda: HistogramLength(LengthDistribution(edges=(0.0, 1.0), counts=(0,))),
        lambda: ListedLengths(()),
    ):
        with pytest.raises(UsageError):
            wrong()


@given(st.integers(1, 3000), st.integers(0, 1000))
def test_a_prompt_has_the_words_that_make_its_tokens(tokens: int, number: int) -> None:
    prompts = SyntheticPrompts(input_tokens=FixedLength(tokens), output_tokens=FixedLength(33))
    body = body_of(prompts, number)
    assert len(text_of(body).split()) == tokens
    assert body["max_tokens"] == 33
    assert body["ignore_eos"] is True
    assert body["stream_options"] == {"include_usage": True}
    calibrated = prompts.calibrated(TokenRatio(tokens_per_word=1.25, template_tokens=8.0))
    words = len(text_of(body_of(calibrated, number)).split())
    assert words == max(1, round((tokens - 8) / 1.25))


def test_prompts_differ_from_their_first_words_on_and_repeat_only_by_number() -> None:
    prompts = SyntheticPrompts()
    openings = {" ".join(text_of(body_of(prompts, number)).split()[:4]) for number in range(300)}
    assert len(openings) > 290
    assert body_of(prompts, 5) == body_of(prompts, 5)


def test_a_workload_gives_prompts_of_its_lengths() -> None:
    histogram = LengthDistribution(edges=(40.0, 41.0), counts=(9,))
    workload = Workload(mean_input_tokens=500.0, mean_output_tokens=9.0, output_lengths=histogram)
    bodies = bodies_of(prompts_for(workload), 400)
    assert {body["max_tokens"] for body in bodies} <= {40, 41}
    assert np.mean([len(text_of(body).split()) for body in bodies]) == pytest.approx(500, rel=0.1)
    means = bodies_of(prompts_for(replace(workload, output_lengths=None)), 2000)
    replies = [int(str(body["max_tokens"])) for body in means]
    assert np.mean(replies) == pytest.approx(9, rel=0.1)
    assert prompts_for(Workload()) == SyntheticPrompts()


def test_a_task_gives_replies_as_uneven_as_its_own() -> None:
    known = load_catalog().task("lm-arena-chat").output_lengths
    assert known is not None
    assert known.median_tokens is not None
    assert known.p99_tokens is not None
    bodies = bodies_of(prompts_for(task_workload("lm-arena-chat")), 4000)
    replies = [int(str(body["max_tokens"])) for body in bodies]
    assert np.mean(replies) == pytest.approx(known.mean_tokens, rel=0.05)
    assert np.median(replies) == pytest.approx(known.median_tokens, rel=0.05)
    assert max(replies) <= known.p99_tokens
    halved = bodies_of(prompts_for(Workload(task="lm-arena-chat", mean_output_tokens=known.mean_tokens / 2)), 4000)
    assert max(int(str(body["max_tokens"])) for body in halved) <= known.p99_tokens / 2 + 1


def test_completions_take_text_and_extra_fields_win() -> None:
    body = body_of(
        SyntheticPrompts(ignore_eos=False), target=COMPLETIONS, extra={"temperature": 0, "max_tokens": 3}
    )
    assert isinstance(body["prompt"], str)
    assert body["temperature"] == 0
    assert body["max_tokens"] == 3
    assert "ignore_eos" not in body
    with pytest.raises(UsageError, match="takes text alone"):
        body_of(SyntheticPrompts(pictures=Pictures()), target=COMPLETIONS)


def test_pictures_are_each_requests_own_and_have_their_size() -> None:
    prompts = SyntheticPrompts(pictures=Pictures(width_px=50, height_px=33, images=2))
    parts = body_of(prompts)["messages"][0]["content"]  # type: ignore[index]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "text"]
    urls = [part["image_url"]["url"] for part in parts[:2]]
    assert urls[0] != urls[1]
    png = base64.b64decode(urls[0].removeprefix("data:image/png;base64,"))
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(png[16:20]) == 50
    assert int.from_bytes(png[20:24]) == 33
    assert prompts.writer(CHAT, {}, 7).heavy


def test_a_png_holds_every_pixel() -> None:
    png = random_png(50, 33, seed=1)
    start = png.index(b"IDAT")
    length = int.from_bytes(png[start - 4 : start])
    data = png[start + 4 : start + 4 + length]
    assert int.from_bytes(png[start + 4 + length : start + 8 + length]) == zlib.crc32(b"IDAT" + data)
    assert len(zlib.decompress(data)) == 33 * (1 + 3 * 50)


def test_a_video_travels_as_one_url_or_as_frames() -> None:
    one = SyntheticPrompts(pictures=Pictures(width_px=16, height_px=16, images=0, video_frames=3))
    parts = body_of(one)["messages"][0]["content"]  # type: ignore[index]
    assert [part["type"] for part in parts] == ["video_url", "text"]
    frames = parts[0]["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
    assert len({base64.b64decode(frame) for frame in frames}) == 3
    assert one.pictures is not None
    many = replace(one, pictures=replace(one.pictures, video_form=VideoForm.FRAMES))
    parts = body_of(many)["messages"][0]["content"]  # type: ignore[index]
    assert [part["type"] for part in parts] == ["image_url"] * 3 + ["text"]
    with pytest.raises(UsageError):
        Pictures(width_px=0)


def test_an_images_request_states_its_shape() -> None:
    target = replace(CHAT, endpoint=Endpoint.IMAGES)
    body = body_of(ImagePrompts(width_px=512, height_px=256, images_per_request=3), target=target)
    assert (body["size"], body["n"], body["model"]) == ("512x256", 3, "m")
    assert "stream" not in body


def test_a_dataset_gives_its_prompts_in_order(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    file.write_text(json.dumps({"prompt": "One"}) + "\n\n" + json.dumps({"messages": messages, "max_tokens": 5}))
    prompts: Prompts = pickle.loads(pickle.dumps(DatasetPrompts(path=file, max_tokens=77)))
    first, second = body_of(prompts), body_of(prompts, 1)
    assert text_of(first) == "One"
    assert first["max_tokens"] == 77
    assert second["messages"] == messages
    assert second["max_tokens"] == 5
    assert body_of(prompts, 2) == first
    assert "ignore_eos" not in first


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('{"prompt": "a"}\n{"prompt": 3}', "line 2"),
        ('{"question": "a"}', "line 1"),
        ("nonsense", "line 1"),
        ("", ""),
    ],
)
def test_a_dataset_that_is_none_names_the_line(tmp_path: Path, content: str, where: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises(ImportFileError, match=rf"prompts\.jsonl: {where}"):
        body_of(DatasetPrompts(path=file))


def test_a_trace_gives_arrivals_and_lengths_together(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:04.0319600,30,8\n2023-11-16 18:17:03.9799600,48,10\n2023-11-16 18:17:05,7,0\n"
    )
    trace = read_trace(file)
    assert trace.offsets_s == pytest.approx((0.0, 0.052, 1.02004))
    assert list(due_times(LoadPlan(arrivals=trace.replay(speed=2.0)))) == pytest.approx([0.0, 0.026, 0.51002])
    bodies = [body_of(trace.prompts(), number) for number in range(4)]
    assert [len(text_of(body).split()) for body in bodies] == [48, 30, 7, 48]
    assert [body["max_tokens"] for body in bodies] == [10, 8, 1, 10]
    assert len(read_trace(file, limit=1).offsets_s) == 1


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\nnow,1,2\n",
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "trace.csv").write_text(content)
    with pytest.raises(ImportFileError, match=r"trace\.csv"):
        read_trace(tmp_path / "trace.csv")


def test_the_azure_traces_are_read_whole(study_data: Path) -> None:
    folder = study_data / "azure-llm-2023"
    code = read_trace(folder / "AzureLLMInferenceTrace_code.csv")
    conversation = read_trace(folder / "AzureLLMInferenceTrace_conv.csv")
    assert (len(code.offsets_s), len(conversation.offsets_s)) == (8819, 19366)
    assert conversation.offsets_s[-1] == pytest.approx(58 * 60, abs=60)
    assert (code.input_tokens[0], code.output_tokens[0]) == (4808, 10)
