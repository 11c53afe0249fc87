"""Selectors name runs, and say what is wrong when they do not."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulemap.errors import JoulemapError, SelectorError, UnknownNameError
from joulemap.store.run_store import RunStore, open_store
from joulemap.store.selector import KEYS, find_run, parse_selector, select
from tests.builders import image_run, llm_run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = open_store(tmp_path)
    store.add(
        [
            *(llm_run(batch=b, energy_j=e) for b, e in ((8.0, 3.0), (16.0, 2.0), (32.0, 2.5))),
            llm_run(batch=16.0, gpu_model="B200", nickname="Model 8B"),
            llm_run(task="code", batch=64.0),
            llm_run(batch=64.0, valid=False),
            image_run(batch=4),
            image_run(batch=8, energy_j=900.0),
        ]
    )
    return store


def test_a_configured_batch_is_found(store: RunStore) -> None:
    assert find_run(store, "task=chat,gpu=h100,batch=16")["energy_per_output_j"] == 2.0


def test_best_is_the_least_energy_and_max_the_largest_batch(store: RunStore) -> None:
    assert find_run(store, "task=chat,gpu=H100,batch=best")["batch_size"] == 16.0
    assert find_run(store, "task=chat,gpu=H100,batch=max")["batch_size"] == 32.0
    assert find_run(store, "model=painter,batch=max")["batch_size"] == 8.0


@pytest.mark.parametrize("name", ["org/model-8b", "Model-8B", "model 8b", "MODEL_8B"])
def test_a_model_is_known_by_id_last_part_or_nickname(store: RunStore, name: str) -> None:
    assert find_run(store, f"model={name},gpu=B200")["gpu_model"] == "B200"


def test_invalid_runs_are_not_selected(store: RunStore) -> None:
    assert 64.0 not in select(store.frame, "task=chat")["batch_size"].to_list()


def test_the_later_of_two_runs_of_one_configuration_counts(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add([llm_run(energy_j=1.0), llm_run(energy_j=2.0)])
    assert find_run(store, "task=chat")["energy_per_output_j"] == 2.0


def test_several_matches_say_in_what_they_differ(store: RunStore) -> None:
    with pytest.raises(SelectorError, match=r"gpu=B200, H100.*batch=8, 16, 32"):
        find_run(store, "task=chat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task=chat,gpu", "not of the form key=value"),
        ("task=", "not of the form key=value"),
        ("colour=red", "unknown selector key 'colour'"),
        ("gpus=two", "not a positive number"),
        ("gpus=-1", "not a positive number"),
        ("gpus=nan", "not a positive number"),
        ("batch=most", "max or best"),
        ("task=a,task=b", "gives task twice"),
        ("model=modle-8b", "did you mean .*8[bB]'"),
        ("gpu=H10", "did you mean 'H100'"),
        ("task=code,gpu=B200", "no run matches gpu=B200 together"),
        ("task=chat,gpu=H100,batch=17", "batch there is one of: 8, 16, 32"),
        ("nonsense!", "or a selector such as"),
    ],
)
def test_a_bad_selector_teaches_the_fix(store: RunStore, text: str, message: str) -> None:
    with pytest.raises(JoulemapError, match=message) as caught:
        find_run(store, text)
    assert caught.value.exit_code == 2


def test_an_unknown_name_suggests_the_nearest(store: RunStore) -> None:
    with pytest.raises(UnknownNameError) as caught:
        select(store.frame, "task=chta")
    assert caught.value.suggestions[0] == "chat"


@given(st.text(max_size=40) | st.lists(st.sampled_from([*KEYS, "=", ",", "1", "max"]), max_size=8).map("".join))
def test_any_text_parses_or_is_refused_politely(text: str) -> None:
    with contextlib.suppress(JoulemapError):
        assert set(parse_selector(text).values) <= set(KEYS)
