"""Everything that a report on a recommendation rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joulemap.optimize.choice import Recommendation, recommend
from joulemap.optimize.constraints import Constraints
from joulemap.optimize.scope import Scope
from joulemap.optimize.tradeoff import Frontier, frontier
from joulemap.store.run_store import RunStore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecommendationPayload:
    """The recommended configuration, and the frontier on which it lies."""

    recommendation: Recommendation
    frontier: Frontier | None
    """``None`` where only the recommendation is at hand."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "recommendation": self.recommendation.to_json(),
            "frontier": None if self.frontier is None else self.frontier.to_json(),
        }


def recommendation_payload(
    scope: Scope, constraints: Constraints | None = None, *, current: str | None = None, store: RunStore
) -> RecommendationPayload:
    """Compute what a report on a recommendation rests on; arguments and errors as of ``joulemap.recommend``."""
    return RecommendationPayload(
        recommendation=recommend(scope, constraints, current=current, store=store),
        frontier=frontier(scope, store=store),
    )
