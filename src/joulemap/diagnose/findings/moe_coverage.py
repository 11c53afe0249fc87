"""A small batch of a mixture of experts still reads most experts."""

from __future__ import annotations

from joulemap.catalog import load_catalog
from joulemap.catalog.architecture import ModelArchitecture, MoeMlp
from joulemap.diagnose.case import Case
from joulemap.diagnose.diagnosis import Bound, Finding, FindingKind, Part
from joulemap.diagnose.findings.wording import relief, weight_of

NAME = "moe-coverage"
MUCH = 0.3
WORTH = 1.15


def find(case: Case) -> Finding | None:
    """Find it where experts are read for few tokens each."""
    experts = _experts(case.row["model_id"])
    if experts is None or case.shares.get(Part.WEIGHT_TRAFFIC, 0.0) < MUCH or case.batch_gain_ratio < WORTH:
        return None
    count, per_token = experts
    touched = 1.0 - (1.0 - per_token / count) ** case.batch
    tokens_each = case.batch * per_token / (count * touched)
    change = relief(case.batch_gain_ratio)
    return Finding(
        name=NAME,
        cause="the tokens of a batch choose different experts, so that nearly all are read for a few tokens each",
        evidence=(
            (
                f"a batch of {case.batch:.0f} touches about {touched:.0%} of {count} experts, "
                f"{tokens_each:.1f} tokens each"
            ),
            f"weight traffic is {case.shares[Part.WEIGHT_TRAFFIC]:.0%} of the energy",
        ),
        lever="a larger batch: experts are read once for all of it",
        change=change,
        confidence=0.7,
        # The same lever as the batch ceiling's, of which this tells why it pays.
        weight=0.6 * weight_of(change) * (case.bound_by is not Bound.IMBALANCE),
        falsified_by="energy per token that does not fall with batch",
        kind=FindingKind.CHOICE,
    )


def _experts(model_id: str) -> tuple[int, int] | None:
    model = load_catalog().models.get(model_id)
    if not isinstance(model, ModelArchitecture):
        return None
    return next(
        ((g.mlp.num_experts, g.mlp.experts_per_token) for g in model.layers if isinstance(g.mlp, MoeMlp)), None
    )
