"""``joulemap import``: bring results of other tools, or the study, into the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from joulemap.cli.output import Common, note, print_json
from joulemap.errors import EXIT_BAD_INPUT, EXIT_DONE, ImportFileError, UsageError
from joulemap.store.importers import ImportHints, Stored, import_path

_PROBLEMS_SHOWN = 20


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Hints:
    """What you know of results whose format does not state it."""

    model: str | None = None
    """The model, as its publisher names it."""
    gpu: str | None = None
    """The GPU model, for example H100."""
    gpus: int | None = None
    """How many GPUs the results were measured on."""
    task: str | None = None
    """The task, for example lm-arena-chat."""
    power: Path | None = None
    """A power log of those GPUs (nvidia-smi CSV, or columns timestamp, gpu, power_w)."""
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


def import_runs(
    *paths: str,
    format: Annotated[str | None, Parameter(name="--format")] = None,
    hints: Hints | None = None,
    common: Common | None = None,
) -> int:
    """Bring results of other tools, or the study, into the store.

    Formats are recognised by content and layout; importing a result twice adds nothing.

    Args:
        paths: Files or folders to import.
        format: Name of the format, where it is not recognised.
        hints: What the files do not state.
        common: Options of every verb.
    """
    if not paths:
        msg = "nothing to import: no file or folder is named"
        raise UsageError(msg, fix="joulemap import PATH, or joulemap import study for the study's dataset")
    common = common or Common()
    store = common.open()
    outcomes: list[tuple[str, Stored]] = []
    problems: list[ImportFileError] = []
    for path in paths:
        try:
            outcomes.append(
                (path, import_path(store, path, format=format, hints=(hints or Hints()).to_import_hints()))
            )
        except ImportFileError as error:
            problems.append(error)
    problems += [problem for _, outcome in outcomes for problem in outcome.read.problems]
    if common.json:
        print_json(_payload(str(store.folder), outcomes, problems))
    else:
        _print_outcomes(outcomes, len(store))
    _note_problems(problems)
    return EXIT_BAD_INPUT if problems else EXIT_DONE


def _payload(
    folder: str, outcomes: Sequence[tuple[str, Stored]], problems: Sequence[ImportFileError]
) -> dict[str, Any]:
    return {
        "store": folder,
        "imported": [
            {
                "path": path,
                "formats": outcome.read.formats,
                "read": len(outcome.read.runs),
                "added": outcome.added,
                "already_there": outcome.already_there,
            }
            for path, outcome in outcomes
        ],
        "problems": [{"file": p.file, "field": p.field, "reason": p.reason} for p in problems],
    }


def _print_outcomes(outcomes: Sequence[tuple[str, Stored]], held: int) -> None:
    for path, outcome in outcomes:
        formats = ", ".join(f"{count:,} of {name}" for name, count in outcome.read.formats.items()) or "none"
        print(f"{path}: {formats}; {outcome.added:,} added, {outcome.already_there:,} were there")  # noqa: T201
        if outcome.read.ignored:
            note(f"note: {len(outcome.read.ignored):,} files in {path} are of no known format and were left out")
    print(f"the store now holds {held:,} runs")  # noqa: T201


def _note_problems(problems: Sequence[ImportFileError]) -> None:
    for problem in problems[:_PROBLEMS_SHOWN]:
        note(f"error: {problem}")
    if len(problems) > _PROBLEMS_SHOWN:
        note(f"… and {len(problems) - _PROBLEMS_SHOWN:,} more problems; --json lists them all")
