"""``joulemap import``: bring results of other tools, or the study, into the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from joulemap.cli.output import Common, note, print_json
from joulemap.cli.progress import LateProgress
from joulemap.errors import EXIT_BAD_INPUT, EXIT_DONE, ImportFileError, OfflineError, UsageError
from joulemap.store.importers import ImportHints, Stored, import_path
from joulemap.units import BYTES_PER_MB

if TYPE_CHECKING:
    from joulemap.store.download import Downloaded
    from joulemap.store.run_store import RunStore

STUDY = "study"
"""The word that stands for the study's dataset among the paths."""
_PROBLEMS_SHOWN = 20
_REASONS_SHOWN = 3


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Hints:
    """What you know of results whose format does not state it; it outranks what a file says."""

    model: str | None = None
    """The model, as its publisher names it."""
    gpu: str | None = None
    """The GPU model, for example H100."""
    gpus: int | None = None
    """How many GPUs the results were measured on."""
    task: str | None = None
    """The task, for example lm-arena-chat."""
    power: Path | None = None
    """A power log of those GPUs (nvidia-smi CSV, or timestamp,gpu,power_w); by default RESULT.power.csv
    or power.csv beside the result."""
    timezone: str | None = None
    """Timezone of local times in the files, for example Europe/Zurich; by default this machine's."""

    def to_import_hints(self) -> ImportHints:
        """Return the hints under the importers' names."""
        return ImportHints(
            task=self.task,
            model_id=self.model,
            gpu_model=self.gpu,
            num_gpus=self.gpus,
            power_csv=self.power,
            power_timezone=self.timezone,
        )


@dataclass(slots=True)
class _Report:
    """What importing did, path by path."""

    outcomes: list[tuple[str, Stored]] = field(default_factory=list)
    problems: list[ImportFileError] = field(default_factory=list)
    study: Downloaded | None = None
    offline: OfflineError | None = None


def import_runs(
    *paths: str,
    format: Annotated[str | None, Parameter(name="--format")] = None,
    url: str | None = None,
    hints: Hints | None = None,
    common: Common | None = None,
) -> int:
    """Bring results of other tools, or the study, into the store.

    Formats are recognised by content and layout: ML.ENERGY leaderboard data, raw results and compiled
    Parquet, aiperf, genai-perf, guidellm, vllm bench serve, Zeus. Importing a result twice adds nothing;
    a bad file or row is named, and its neighbours are imported all the same.

    Args:
        paths: Files or folders to import; the word "study" downloads the study's public dataset.
        format: Name of the format, where it is not recognised.
        url: Where to download the study from, instead of the leaderboard's address (also JOULEMAP_STUDY_URL).
        hints: What the files do not state.
        common: Options of every verb.
    """
    if not paths:
        msg = "nothing to import: no file or folder is named"
        raise UsageError(msg, fix="joulemap import PATH, or joulemap import study for the study's dataset")
    if url and STUDY not in paths:
        msg = "--url is where to download the study from, but the study is not among what is to be imported"
        raise UsageError(msg, fix=f"joulemap import study --url {url}")
    common = common or Common()
    import_hints = (hints or Hints()).to_import_hints()
    store = common.open()
    report = _Report()
    with LateProgress() as progress:
        for path in paths:
            try:
                if path == STUDY:
                    report.outcomes.append((path, _import_study(store, url, report, progress)))
                else:
                    report.outcomes.append((path, _import_path(store, path, format, import_hints, progress)))
            except ImportFileError as error:
                report.problems.append(error)
            except OfflineError as error:
                report.offline = error
    for _, outcome in report.outcomes:
        report.problems += outcome.read.problems
    # One bad power log is named once, not once for every result that wanted it.
    report.problems = list({str(problem): problem for problem in report.problems}.values())
    if common.json:
        print_json(_payload(store, report))
    else:
        _print_outcomes(report, len(store))
    _note_problems(report.problems)
    if report.offline:
        raise report.offline
    return EXIT_BAD_INPUT if report.problems else EXIT_DONE


def _import_path(
    store: RunStore, path: str, format_name: str | None, hints: ImportHints, progress: LateProgress
) -> Stored:
    def looked_at(count: int) -> None:
        progress.update(f"reading {path}: {count:,} files", count)

    return import_path(store, path, format=format_name, hints=hints, progress=looked_at)


def _import_study(store: RunStore, url: str | None, report: _Report, progress: LateProgress) -> Stored:
    from joulemap.store.download import download_study

    if Path(STUDY).exists():
        note(f"note: this downloads the study's dataset; 'joulemap import ./{STUDY}' imports what lies here")

    def came_in(received_bytes: int, done: int, total: int) -> None:
        progress.update(f"downloading the study: {received_bytes / BYTES_PER_MB:.1f} MB", done, total)

    report.study = download_study(url, progress=came_in)
    return import_path(store, report.study.folder)


def _payload(store: RunStore, report: _Report) -> dict[str, Any]:
    study = report.study
    return {
        "store": store.address,
        "imported": [
            {
                "path": path,
                "formats": outcome.read.formats,
                "read": len(outcome.read.runs),
                "invalid": sum(not run.validity.valid for run in outcome.read.runs),
                "added": outcome.added,
                "already_there": outcome.already_there,
                "ignored": [str(ignored) for ignored in outcome.read.ignored],
            }
            for path, outcome in report.outcomes
        ],
        "study": study
        and {
            "folder": str(study.folder),
            "release": study.release,
            "verified": study.verified,
            "notes": list(study.notes),
        },
        "problems": [{"file": p.file, "field": p.field, "reason": p.reason} for p in report.problems],
    }


def _print_outcomes(report: _Report, held: int) -> None:
    for path, outcome in report.outcomes:
        formats = ", ".join(f"{count:,} of {name}" for name, count in outcome.read.formats.items()) or "none"
        print(f"{path}: {formats}; {outcome.added:,} added, {outcome.already_there:,} already there")  # noqa: T201
        if outcome.read.ignored:
            count = len(outcome.read.ignored)
            note(f"note: left out {_files(count)} of no known format, for example {outcome.read.ignored[0]}")
        _note_runs(outcome)
    for text in report.study.notes if report.study else ():
        note(f"note: {text}")
    if report.outcomes:
        print(f"the store now holds {held:,} run{'' if held == 1 else 's'}")  # noqa: T201


def _note_runs(outcome: Stored) -> None:
    runs = outcome.read.runs
    reasons = Counter(reason for run in runs if (reason := run.annotations.missing.get("energy_per_output_j")))
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        note(f"note: {count:,} of {len(runs):,} runs without energy per output: {reason}")
    if invalid := [run for run in runs if not run.validity.valid]:
        note(
            f"note: {len(invalid):,} of {len(runs):,} runs are kept but marked invalid, for example "
            f"{invalid[0].run_id}: {invalid[0].validity.reasons[0]}"
        )


def _note_problems(problems: Sequence[ImportFileError]) -> None:
    for problem in problems[:_PROBLEMS_SHOWN]:
        note(f"error: {problem}")
    if len(problems) > _PROBLEMS_SHOWN:
        note(f"… and {len(problems) - _PROBLEMS_SHOWN:,} more problems; --json lists them all")


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count:,} files"
