"""Fixtures shared by all tests; the study's dataset is read from where it lies, never copied."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from joulemap.store.importers import import_path
from joulemap.store.run_store import RunStore, open_store

# The machine may be shared: slowness is no failure of a property, and CI must be repeatable.
settings.register_profile("joulemap", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("joulemap")

# A suite that a shell started in the background ignores Ctrl-C, and so would every command that it tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


def study_data_dir() -> Path | None:
    """Return the folder that holds ``mlenergy-v3`` and its neighbours, or ``None`` if there is none."""
    given = os.environ.get("JOULEMAP_STUDY_DATA")
    folder = Path(given) if given else BESIDE_CHECKOUT
    return folder if (folder / "mlenergy-v3" / "index.json").is_file() else None


@pytest.fixture(scope="session")
def study_data() -> Path:
    """The study's dataset; a test that asks for it is skipped, with the reason, where it is absent."""
    folder = study_data_dir()
    if folder is None:
        pytest.skip("the study's dataset is neither in JOULEMAP_STUDY_DATA nor in ../shared/data")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that read the dataset, so that they can be counted."""
    for item in items:
        if "study_data" in getattr(item, "fixturenames", ()):
            item.add_marker("dataset")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests needed the dataset, and fail loudly if one was skipped although it is there."""
    reports = [r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)]
    wanting = [r for r in reports if "dataset" in r.keywords and r.when in {"call", "setup"}]
    skipped = [r for r in wanting if r.skipped]
    passed = [r for r in wanting if r.passed and r.when == "call"]
    present = "present" if study_data_dir() else "absent"
    terminalreporter.write_line(
        f"study dataset {present}: {len(passed)} tests that read it passed, {len(skipped)} skipped"
    )


@pytest.fixture(scope="session")
def study_store(study_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A store with the study's runs, imported as a user would."""
    store = open_store(tmp_path_factory.mktemp("study") / "store")
    import_path(store, study_data / "mlenergy-v3")
    return store
