"""What an importer is: a name, a test whether a file or folder is its own, and a reader."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from joulemap.errors import ImportFileError, UsageError
from joulemap.records import Run

if TYPE_CHECKING:
    from joulemap.store.importers.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportHints:
    """What the user knows of results whose format does not state it; given values outrank the file's.

    Raises:
        UsageError: A text is empty or cannot be printed, or the number of GPUs is not above zero.
    """

    task: str | None = None
    model_id: str | None = None
    gpu_model: str | None = None
    num_gpus: int | None = None
    power_csv: Path | None = None
    """A power log of the GPUs used, over at least the measurement window."""
    power_timezone: str | None = None
    """Timezone of a power log's local stamps and of a result's local date, for example
    ``"Europe/Zurich"``; that of this machine if ``None``."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if isinstance(value, str) and not (value.strip() and value.isprintable()):
                msg = f"{name} cannot be {value!r}"
                raise UsageError(msg)
        if self.num_gpus is not None and self.num_gpus < 1:
            msg = f"results cannot be of {self.num_gpus} GPUs"
            raise UsageError(msg)

    def given(self) -> dict[str, object]:
        """Return the hints that are not ``None``, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass(slots=True)
class Reading:
    """What an importer got out of one file or folder: valid runs, and one problem a bad place."""

    runs: list[Run] = field(default_factory=list)
    problems: list[ImportFileError] = field(default_factory=list)


@runtime_checkable
class Importer(Protocol):
    """A format that joulemap can read.

    Third parties register an instance under the entry-point group ``joulemap.importers``.
    """

    @property
    def name(self) -> str:
        """The format's name for ``--format``: lower-case words joined by hyphens."""
        ...

    @property
    def summary(self) -> str:
        """One line that says which tool writes the format."""
        ...

    def recognises(self, source: Source) -> bool:
        """Return whether the file or folder is of this format; cheap, and never an error."""
        ...

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read the file or folder.

        Raises:
            ImportFileError: Nothing of it can be used; a bad part beside valid ones is a problem in
                the reading instead.
        """
        ...
