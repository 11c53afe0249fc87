"""What a published claim is, and how one is told to be reproduced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from joulemap.study.runs import MissingRunsError, StudyRuns

KNOWN_DIFFERENCE = "differs in the released data, as known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A published claim beside what the store's runs give for it."""

    id: str
    """Short name, for example ``"task.energy"``."""
    statement: str
    """What is claimed."""
    published: str
    """The published value, as text."""
    computed: str | None
    """The value from the runs, rounded like the published one; ``None`` where runs are missing."""
    match: bool
    """Whether the computed value rounds to the published one."""
    note: str
    """What is missing, why the values differ, or what stands behind the value."""
    values: Mapping[str, float]
    """The computed values before rounding; energies in J, times in s, ratios and shares as such."""

    @property
    def is_known_difference(self) -> bool:
        """Whether the value differs from the published one just as the released data is known to."""
        return self.note.startswith(KNOWN_DIFFERENCE)

    def to_json(self) -> dict[str, str | bool | None]:
        """Return the JSON form: ``{"id", "published", "computed", "match", "note"}``."""
        return {
            "id": self.id,
            "published": self.published,
            "computed": self.computed,
            "match": self.match,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the runs give for one claim."""

    computed: str
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDefinition:
    """A published claim and how it is computed."""

    id: str
    statement: str
    published: str
    compute: Callable[[StudyRuns], Outcome]
    released: str | None = None
    """What the released data gives, where that is known to differ from what was published."""
    why: str = ""
    """Why the released data differs."""

    def check(self, runs: StudyRuns) -> Claim:
        """Compute the claim from runs; missing runs make a claim without a value, never an error."""
        try:
            outcome = self.compute(runs)
        except MissingRunsError as missing:
            outcome = Outcome(computed="", note=str(missing))
        computed = outcome.computed or None
        # Both texts are rounded to the published digits, so that equal texts are equal rounded values.
        match = computed == self.published
        return Claim(
            id=self.id,
            statement=self.statement,
            published=self.published,
            computed=computed,
            match=match,
            note=self._note(outcome.note, computed, match),
            values=outcome.values,
        )

    def _note(self, note: str, computed: str | None, match: bool) -> str:
        if match or computed is None or self.released is None:
            return note
        if computed == self.released:
            return "; ".join(filter(None, (f"{KNOWN_DIFFERENCE}: {self.why}", note)))
        differs = f"differs from what was published and from the released data ({self.released})"
        return "; ".join(filter(None, (differs, note)))


def signed_percent(change: float) -> str:
    """Return a relative change as a signed whole percentage without the sign of per cent.

    >>> signed_percent(0.128), signed_percent(-0.05), signed_percent(0.001)
    ('+13', '−5', '0')
    """
    rounded = round(100 * change)
    if rounded == 0:
        return "0"
    return f"+{rounded}" if rounded > 0 else f"−{-rounded}"


def less_or_more(change: float) -> str:
    """Return a relative change in words.

    >>> less_or_more(-0.349), less_or_more(0.532)
    ('35% less', '53% more')
    """
    return f"{abs(round(100 * change))}% {'less' if change < 0 else 'more'}"
