"""Downloading the study's public dataset: the JSON behind the ML.ENERGY leaderboard.

The files lie under one base address: ``index.json``, ``tasks/TASK.json`` and, named after the models of a task
file, ``models/ORG__MODEL__TASK.json``. They are kept in a cache folder, so that an interrupted download goes on
where it stopped. The release that joulemap was tested with is verified by the checksums shipped with it.
"""

from __future__ import annotations

import hashlib
import http
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

from joulemap.errors import ImportFileError, OfflineError
from joulemap.store.fetch import Fetcher, FetchError, check_url
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.source import parse_json

DEFAULT_STUDY_URL = "https://ml.energy/leaderboard/data"
"""Base address of the leaderboard's published data (site of the repository ml-energy/leaderboard)."""
STUDY_URL_ENVIRONMENT_VARIABLE = "JOULEMAP_STUDY_URL"
KNOWN_RELEASE = "2026-02-16"
MOST_FILES = 5_000
_AT_ONCE = 6
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}")
_NAME_ONLY = re.compile(r"[^A-Za-z0-9._-]")
_NOT_FETCHED = "the study could not be downloaded"

Progress = Callable[[int, int, int], None]
"""Called with bytes received, files complete and files in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """The dataset in a folder, ready to import."""

    folder: Path
    release: str | None
    """The release's date."""
    verified: bool
    """Whether every file has the checksum of the known release."""
    notes: tuple[str, ...] = ()
    """What the user should know of it."""


def study_url(given: str | None = None) -> str:
    """Return the base address: the given one, else ``$JOULEMAP_STUDY_URL``, else the leaderboard's."""
    url = given or os.environ.get(STUDY_URL_ENVIRONMENT_VARIABLE) or DEFAULT_STUDY_URL
    return url.strip().removesuffix("/index.json").rstrip("/")


def default_cache_dir() -> Path:
    """Return ``joulemap/study`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "joulemap" / "study"


def download_study(
    url: str | None = None,
    cache: Path | None = None,
    *,
    fetcher: Fetcher | None = None,
    progress: Progress | None = None,
) -> Downloaded:
    """Download the dataset, or complete an earlier download of the same release.

    Args:
        url: The base address; see :func:`study_url`.
        cache: Where to keep the files; see :func:`default_cache_dir`.
        fetcher: How to fetch; by default with the usual limits.
        progress: Called as bytes and files come in.

    Raises:
        OfflineError: A file could not be had, or is not what it should be.
    """
    base = study_url(url)
    cache = cache or default_cache_dir()
    counter = _Counter(progress)
    fetcher = replace(fetcher or Fetcher(), on_bytes=counter.add_bytes)
    try:
        check_url(base)
        return _download(base, cache, fetcher, counter)
    except (OfflineError, ImportFileError) as error:
        msg = f"{_NOT_FETCHED}: {error.message}"
        raise OfflineError(msg, fix=_fix(base)) from error
    except OSError as error:
        msg = f"{_NOT_FETCHED}: the cache folder {cache} cannot be written: {error.strerror or error}"
        raise OfflineError(msg, fix="set XDG_CACHE_HOME to a folder that you may write") from error


def _download(base: str, cache: Path, fetcher: Fetcher, counter: _Counter) -> Downloaded:
    arriving = cache / f"index-{hashlib.sha256(base.encode()).hexdigest()[:16]}.json"
    # A stale beginning of an index must not be continued by another release's end.
    arriving.with_name(arriving.name + ".partial").unlink(missing_ok=True)
    arriving.unlink(missing_ok=True)
    fetcher.fetch(f"{base}/index.json", arriving, _complaint_on_json)
    content = arriving.read_bytes()
    index = Fields(f"{base}/index.json", "", parse_json(content.decode("utf-8-sig")))
    release = index.optional_text("last_updated")
    manifest = known_checksums() if release == KNOWN_RELEASE else {}
    folder = cache / f"{_NAME_ONLY.sub('', release or 'undated')[:40]}-{hashlib.sha256(content).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    _verify("index.json", content, manifest)
    arriving.replace(folder / "index.json")

    tasks = [f"tasks/{_name(index, 'tasks', task)}.json" for task in _texts(index, "tasks")]
    counter.expect(1 + len(tasks))
    counter.add_file()
    _fetch_all(base, folder, tasks, manifest, fetcher, counter)
    models = sorted({name for task in tasks for name in _model_files(folder / task, base)})
    if len(models) > MOST_FILES:
        index.refuse("models", f"would need {len(models):,} files, over the limit of {MOST_FILES:,}")
    counter.expect(1 + len(tasks) + len(models))
    absent = _fetch_all(base, folder, models, manifest, fetcher, counter)
    notes = [f"{len(absent):,} models have no file with output lengths, for example {absent[0]}"] if absent else []
    if release != KNOWN_RELEASE:
        notes.append(
            f"the release of {release or 'an unknown date'} is not that of {KNOWN_RELEASE}, which the published "
            "claims are of and whose checksums are known: its files could not be verified"
        )
    return Downloaded(folder=folder, release=release, verified=bool(manifest), notes=tuple(notes))


def _fetch_all(
    base: str,
    folder: Path,
    names: Iterable[str],
    manifest: Mapping[str, str],
    fetcher: Fetcher,
    counter: _Counter,
) -> list[str]:
    """Fetch the files that are not there yet, several at once; return those that the server does not have."""
    failures: list[FetchError] = []

    def bring(name: str) -> str | None:
        target = folder / name
        if not (target.is_file() and _complaint(name, target.read_bytes(), manifest) is None):
            try:
                fetcher.fetch(f"{base}/{quote(name)}", target, lambda content: _complaint(name, content, manifest))
            except FetchError as error:
                # A newer release may lack the detail of a model; what is listed in a known one must be there.
                if error.status == http.HTTPStatus.NOT_FOUND and not manifest and name.startswith("models/"):
                    return name
                # The first is the cause; the others under way then only say that they were given up.
                failures.append(error)
                fetcher.stop.set()
        counter.add_file()
        return None

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        try:
            outcomes = [pool.submit(bring, name) for name in names]
            absent = [name for outcome in outcomes if (name := outcome.result()) is not None]
        except BaseException:
            fetcher.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        raise failures[0]
    return absent


def known_checksums() -> dict[str, str]:
    """Return SHA-256 by file name of the release that joulemap was tested with."""
    text = (files("joulemap.store") / "data" / f"study-{KNOWN_RELEASE}.sha256").read_text("utf-8")
    return {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}


def _complaint(name: str, content: bytes, manifest: Mapping[str, str]) -> str | None:
    if (complaint := _complaint_on_json(content)) is not None:
        return complaint
    if manifest and manifest.get(name) != hashlib.sha256(content).hexdigest():
        return f"is not the file of the release of {KNOWN_RELEASE}: its checksum differs"
    return None


def _complaint_on_json(content: bytes) -> str | None:
    try:
        document = parse_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return f"sent no JSON: it begins with {content[:30]!r}" if content else "sent nothing"
    return None if isinstance(document, dict) else "sent JSON that is no object"


def _verify(name: str, content: bytes, manifest: Mapping[str, str]) -> None:
    if manifest and (complaint := _complaint(name, content, manifest)):
        msg = f"{name} {complaint}"
        raise FetchError(msg, retry=False)


def _texts(index: Fields, field: str) -> list[Any]:
    values = index.items(field)
    if not values or len(values) > MOST_FILES:
        index.refuse(field, f"lists {len(values):,} entries")
    return values


def _name(where: Fields, field: str, value: Any) -> str:
    """Return a name from the server if it can be a file's name; it must not lead out of the folder."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or ".." in value:
        where.refuse(field, f"holds {str(value)[:60]!r}, which cannot be a file's name")
    return value


def _model_files(task_file: Path, base: str) -> set[str]:
    """Return the names of the model files that belong to a task file."""
    task = task_file.stem
    where = Fields(f"{base}/tasks/{task_file.name}", "", parse_json(task_file.read_text("utf-8-sig")))
    models = [row.get("model_id") for row in where.items("configurations") if isinstance(row, dict)]
    names = set()
    for model in {model for model in models if isinstance(model, str)}:
        file_name = "__".join(_name(where, "configurations.model_id", part) for part in model.split("/"))
        names.add(f"models/{file_name}__{task}.json")
    return names


def _fix(base: str) -> str:
    return f"try again later; or get the files under {base} another way and say: joulemap import FOLDER"


class _Counter:
    """Counts what has come in, from several threads."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = Lock()
        self._bytes = self._files = self._expected = 0

    def expect(self, files_in_all: int) -> None:
        """Set how many files there will be."""
        self._expected = files_in_all

    def add_bytes(self, count: int) -> None:
        """Count bytes received."""
        self._count(count, 0)

    def add_file(self) -> None:
        """Count one file as complete."""
        self._count(0, 1)

    def _count(self, more_bytes: int, more_files: int) -> None:
        with self._lock:
            self._bytes += more_bytes
            self._files += more_files
            if self._progress:
                self._progress(self._bytes, self._files, max(self._expected, self._files))
