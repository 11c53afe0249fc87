"""Request lines as gateways write them, and files as systems turn them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.watch.request_log import LONGEST_LINE_BYTES, RequestLog
from joulemap.watch.requests import (
    LONGEST_NAME,
    AccountFields,
    LineError,
    printable,
    request_of,
)

GOOD = {"start": 1_795_000_000.0, "end": 1_795_000_010.0, "prompt_tokens": 10, "output_tokens": 20}


def line(**more: Any) -> bytes:
    return json.dumps({**GOOD, **more}).encode()


def test_openai_usage_and_iso_times() -> None:
    told = request_of(
        json.dumps(
            {
                "startTime": "2026-11-27T10:00:00Z",
                "completionStartTime": "2026-11-27T11:00:01.500+01:00",
                "endTime": "2026-11-27T10:00:09Z",
                "usage": {
                    "prompt_tokens": 1000,
                    "completion_tokens": 50,
                    "prompt_tokens_details": {"cached_tokens": 300},
                },
                "metadata": {"team": "search"},
                "path": "/v1/chat/completions",
            }
        ).encode(),
        AccountFields(tenant="metadata.team", route="path"),
    )
    assert told.account == ("search", "/v1/chat/completions", "")
    assert told.first_unix_s - told.begin_unix_s == pytest.approx(1.5)
    assert told.end_unix_s - told.begin_unix_s == pytest.approx(9.0)
    assert (told.prompt_tokens, told.prefill_tokens, told.output_tokens) == (1000, 700, 50)


def test_names_of_the_semantic_conventions_and_milliseconds() -> None:
    told = request_of(
        json.dumps(
            {
                "start": 1_795_000_000_000,
                "duration_s": 4,
                "ttft_s": 1,
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": 8,
                "tenant": 42,
            }
        ).encode(),
        AccountFields(),
    )
    assert told.begin_unix_s == 1_795_000_000.0
    assert told.first_unix_s == 1_795_000_001.0
    assert told.end_unix_s == 1_795_000_004.0
    assert told.account.tenant == "42"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"nonsense", "no JSON"),
        (b"[1, 2]", "no JSON object"),
        (b"[" * 100_000, "no JSON"),
        (b'{"start": 1, "end": 2}', "no token counts"),
        (line(prompt_tokens=-1), "impossible token count"),
        (line(output_tokens=1e300), "impossible token count"),
        (line(end=1.0), "impossible times"),
        (line(end=None), "no begin or end"),
        (line(start="yesterday"), "no begin or end"),
        (line(end=1_799_000_000.0), "impossible times"),
    ],
)
def test_a_line_that_is_no_request_says_why(text: bytes, reason: str) -> None:
    with pytest.raises(LineError, match=reason):
        request_of(text, AccountFields())


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_line_does_any_harm(text: bytes) -> None:
    with contextlib.suppress(LineError):
        request_of(text, AccountFields())


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "tenant", "usage", "first_token"]),
        st.from_type(object) | st.floats() | st.text() | st.integers() | st.none(),
    )
)
def test_no_object_does_any_harm(told: dict[str, Any]) -> None:
    try:
        text = json.dumps({**GOOD, **told})
    except (TypeError, ValueError):
        return
    with contextlib.suppress(LineError):
        request_of(text.encode(), AccountFields())


def test_a_first_token_outside_of_the_request_is_put_within() -> None:
    told = request_of(line(first_token=1.0), AccountFields())
    assert told.first_unix_s == told.begin_unix_s


@pytest.mark.parametrize("name", ["\x1b[31mred\x1b[0m", "a\nb", "a\u202eb", "\ud800", "x" * 10_000])
def test_names_are_printable_and_short(name: str) -> None:
    told = printable(name)
    assert told.isprintable()
    assert len(told) <= LONGEST_NAME + 1
    told.encode()


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as out:
        out.write(data)


def test_only_what_is_new_is_read_and_half_lines_wait(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(line(tenant="old") + b"\n")
    log = RequestLog(file)
    assert log.poll() == []
    append(file, line(tenant="new") + b"\n" + line(tenant="half")[:20])
    assert [r.account.tenant for r in log.poll()] == ["new"]
    append(file, line(tenant="half")[20:] + b"\n")
    assert [r.account.tenant for r in log.poll()] == ["half"]
    log.close()


def test_a_file_that_comes_later_is_read_from_its_begin(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log")
    assert log.poll() == []
    assert "No such file" in str(log.error)
    append(tmp_path / "log", line() + b"\n")
    assert len(log.poll()) == 1
    assert str(log.error) == "None"
    log.close()


def test_rotation_by_rename_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    log = RequestLog(file)
    append(file, line(tenant="a") + b"\n")
    file.rename(tmp_path / "log.1")
    append(tmp_path / "log.1", line(tenant="b") + b"\n")  # the writer has not noticed yet
    append(file, line(tenant="c") + b"\n")
    assert [r.account.tenant for r in log.poll()] == ["a", "b", "c"]
    append(file, line(tenant="d") + b"\n")
    assert [r.account.tenant for r in log.poll()] == ["d"]
    log.close()


def test_rotation_by_truncation_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    log = RequestLog(file)
    append(file, line() + b"\n" + line() + b"\n")
    assert len(log.poll()) == 2
    os.truncate(file, 0)
    append(file, line(tenant="new") + b"\n")
    assert [r.account.tenant for r in log.poll()] == ["new"]
    log.close()


def test_a_line_without_end_is_skipped_and_does_not_fill_memory(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    log = RequestLog(file)
    for _ in range(5):
        append(file, b"x" * LONGEST_LINE_BYTES)
        assert log.poll() == []
    assert len(log._rest) <= LONGEST_LINE_BYTES
    append(file, b"\n" + line(tenant="after") + b"\n")
    assert [r.account.tenant for r in log.poll()] == ["after"]
    assert log.rejected["line too long"] == 1
    log.close()


def test_nonsense_is_counted_by_reason(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    log = RequestLog(file)
    append(file, b"nonsense\n\n{}\n" + line() + b"\n")
    assert len(log.poll()) == 1
    assert log.rejected == {"no JSON": 1, "no token counts": 1}
    assert log.accepted == 1
    log.close()
