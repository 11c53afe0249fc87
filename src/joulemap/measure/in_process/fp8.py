"""Linear layers in fp8: weights stored and multiplied as e4m3, by PyTorch's scaled matrix product."""

from __future__ import annotations

from typing import Any

from joulemap.errors import InfeasibleError

MULTIPLE = 16
"""The scaled matrix product takes inner and outer sizes that are multiples of this."""
LARGEST_E4M3 = 448.0


def quantize_linears(torch: Any, model: Any) -> str:
    """Replace a model's linear layers by fp8 ones, in place, one after the other, and say what was done.

    Weights get one scale a tensor; activations are rounded with scale 1, as with a static calibration. The output
    layer stays as it is, as serving engines keep it.

    Raises:
        InfeasibleError: The model keeps most of its weights outside linear layers (mixture of experts).
    """
    fp8_linear = _fp8_linear(torch)
    places = [
        (parent, name, child)
        for path, parent in model.named_modules()
        for name, child in parent.named_children()
        if isinstance(child, torch.nn.Linear)
        and "lm_head" not in f"{path}.{name}"
        and child.in_features % MULTIPLE == 0
        and child.out_features % MULTIPLE == 0
    ]
    weights = sum(child.weight.numel() for _, _, child in places)
    total = sum(p.numel() for p in model.parameters())
    embedded = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    if weights < 0.5 * (total - embedded):
        msg = "most weights of this model lie outside linear layers, which alone can be made fp8 here"
        raise InfeasibleError(msg, fix="--precision bfloat16")
    for parent, name, child in places:
        setattr(parent, name, fp8_linear(child))
    return f"{len(places)} linear layers in fp8 (e4m3, one scale a tensor, activations with scale 1)"


def _fp8_linear(torch: Any) -> Any:
    class Fp8Linear(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, linear: Any) -> None:
            super().__init__()
            weight = linear.weight.detach()
            scale = weight.abs().amax().float().clamp(min=1e-12) / LARGEST_E4M3
            self.register_buffer("weight", (weight / scale).to(torch.float8_e4m3fn))
            self.register_buffer("weight_scale", scale)
            self.register_buffer("input_scale", torch.ones((), device=weight.device, dtype=torch.float32))
            self.bias = linear.bias
            self.in_features, self.out_features = linear.in_features, linear.out_features

        def forward(self, x: Any) -> Any:
            rows = x.reshape(-1, self.in_features)
            # PyTorch has no public name for it.
            out = torch._scaled_mm(
                rows.clamp(-LARGEST_E4M3, LARGEST_E4M3).to(torch.float8_e4m3fn),
                self.weight.t(),
                scale_a=self.input_scale,
                scale_b=self.weight_scale,
                bias=self.bias,
                out_dtype=x.dtype,
                use_fast_accum=True,
            )
            return out.reshape(*x.shape[:-1], self.out_features)

    return Fp8Linear
