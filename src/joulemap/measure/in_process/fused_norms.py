"""RMS norms in one kernel each: transformers writes them as seven, which no serving engine would do."""

from __future__ import annotations

from typing import Any

TOLERANCE = 1e-2
"""Largest difference at which the fused norm counts as the same: rounding of 16-bit numbers."""


def fuse_norms(torch: Any, model: Any) -> int:
    """Let a model's RMS norms use PyTorch's fused one, in place, where both give the same; return how many do.

    Norms of other forms (Gemma's add one to the weight) give other results and stay as they are.
    """
    changed = 0
    for module in model.modules():
        weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
        if not type(module).__name__.endswith("RMSNorm") or weight is None or eps is None:
            continue
        if _same(torch, module, weight, eps):
            module.forward = _fused(torch, weight, eps)
            changed += 1
    return changed


def _same(torch: Any, module: Any, weight: Any, eps: float) -> bool:
    with torch.inference_mode():
        x = torch.randn((4, *weight.shape), dtype=weight.dtype, device=weight.device)
        # A weight of ones would hide how the weight enters.
        kept = weight.data.clone()
        weight.data.uniform_(0.5, 1.5)
        try:
            return bool(torch.allclose(module(x), _fused(torch, weight, eps)(x), rtol=TOLERANCE, atol=TOLERANCE))
        finally:
            weight.data.copy_(kept)


def _fused(torch: Any, weight: Any, eps: float) -> Any:
    return lambda hidden_states: torch.nn.functional.rms_norm(hidden_states, tuple(weight.shape), weight, eps)
