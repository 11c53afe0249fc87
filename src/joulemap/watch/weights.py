"""What tokens cost relative to each other: from the ledger of a diagnosis, or a stated assumption without one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from joulemap.catalog.tables import read_tables
from joulemap.diagnose.diagnosis import Diagnosis, Part
from joulemap.records import Basis

PER_THOUSAND = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeights:
    """Relative costs; only their ratios matter."""

    prompt_weight: float
    """Of a prompt token that is not in the prefix cache."""
    output_weight: float
    """Of an output token, its context apart."""
    context_weight: float
    """Of one token of context read for one output token."""
    basis: Basis


@cache
def assumed_weights() -> TokenWeights:
    """Return the catalog's weights, which fit no server in particular."""
    told = read_tables("attribution")["relative_costs"]["token"]
    return TokenWeights(
        prompt_weight=float(told["prompt_token"]),
        output_weight=1.0,
        context_weight=float(told["thousand_context_tokens"]) * PER_THOUSAND,
        basis=Basis.ASSUMED,
    )


def weights_of(diagnosis: Diagnosis, prompt_per_output: float | None) -> TokenWeights:
    """Return the weights that a diagnosis' ledger gives; the assumed ones where it does not divide the work.

    The joules per output of prefill fall on the prompt tokens behind one output, those of the KV cache on the
    tokens of context that one output reads, all others on the output itself.

    Args:
        diagnosis: Of the server as it runs.
        prompt_per_output: Prompt tokens, without those found in the prefix cache, for each output token.
    """
    joules = {part.part: part.joules_per_output for part in diagnosis.ledger}
    context = diagnosis.latents.get("context_tokens")
    if Part.PREFILL not in joules or context is None or context.value <= 0 or not prompt_per_output:
        return assumed_weights()
    prefill_j, kv_j = joules[Part.PREFILL], joules[Part.KV_TRAFFIC]
    rest_j = diagnosis.total_j_per_output - prefill_j - kv_j
    if rest_j <= 0:
        return assumed_weights()
    return TokenWeights(
        prompt_weight=prefill_j / prompt_per_output,
        output_weight=rest_j,
        context_weight=kv_j / context.value,
        basis=Basis.MODELLED,
    )
