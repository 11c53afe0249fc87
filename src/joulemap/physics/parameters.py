r"""Parameter counts of a model from its shape.

Symbols: h hidden size, a heads, k KV heads, d head dimension, f feed-forward width, e experts, t experts per
token, V vocabulary; b = 1 where a layer has biases, else 0. Counts are dimensionless.

- attention: ``h·a·d·(1 + gate) + 2·h·k·d + a·d·h`` (one key/value matrix less where values are keys), plus biases,
  sinks and the two normalisations of ``d``
- latent attention: ``h·q + q·a·(n + r)`` (or ``h·a·(n + r)`` without query compression) ``+ h·(c + r) +
  c·a·(n + v) + a·v·h + q + c`` with ranks q and c and head dimensions n (no position), r (rotary) and v (value)
- Mamba-2, inner width i = heads × head dimension, g groups, s state size, kernel w:
  ``h·(2·i + 2·g·s + heads) + (i + 2·g·s)·(w + 1) + 3·heads + i + i·h``
- feed-forward: ``m·h·f`` with m = 3 matrices if gated, else 2
- mixture: ``e·m·h·f`` routed, ``m·h·f_shared`` shared, router ``h·e``; a token passes t of the e experts
- diffusion block, for each stream: attention ``4·h²``, feed-forward ``m·h·f`` (and ``2·f·w²`` for a depthwise
  convolution of side w inside a gated one, ``f·w²`` else), cross-attention to width c ``2·h² + 2·c·h``, plus its
  modulation and further linear layers; every linear layer i → o counts ``i·o + o``

Sources: Vaswani et al. 2017 (attention), Ainslie et al. 2023 (grouped queries), DeepSeek-V2 2024 (latent
attention), Dao and Gu 2024 (Mamba-2), Yang et al. 2024 (gated delta rule), Fedus et al. 2021 (mixtures).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from joulemap.catalog.architecture import (
    Attention,
    AudioEncoder,
    DenseMlp,
    FeedForward,
    GatedDeltaNet,
    LatentAttention,
    Mamba2,
    Mixer,
    ModelArchitecture,
    MoeMlp,
    Projector,
    VisionEncoder,
    WeightPart,
)
from joulemap.catalog.diffusion import DiffusionArchitecture, DiffusionBlockGroup

IMAGE_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Parameters of a language or multimodal model, by part."""

    parts: dict[WeightPart, int]
    """All parameters of each part that the model has."""
    active_parts: dict[WeightPart, int]
    """Of these, what one text token passes; the input embedding counts whole, as publishers count it."""

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parts.values())

    @property
    def active(self) -> int:
        """Parameters that one text token passes, encoders excluded."""
        return sum(self.active_parts.values())

    @property
    def language(self) -> int:
        """All parameters of the language model, encoders excluded."""
        return self.total - self.parts.get("vision", 0) - self.parts.get("audio", 0)


def parameter_counts(model: ModelArchitecture) -> ParameterCounts:
    """Count a model's parameters by part.

    >>> from joulemap.catalog import load_catalog
    >>> round(parameter_counts(load_catalog().model("Qwen/Qwen3-8B")).total / 1e9, 2)
    8.19
    """
    h = model.hidden_size
    parts: dict[WeightPart, int] = {"embeddings": model.vocab_size * h, "norms": h}
    if not model.tied_embeddings:
        parts["lm_head"] = model.vocab_size * h
    active = dict(parts)
    for group in model.layers:
        once: dict[WeightPart, int] = {"norms": group.norms * h}
        passed: dict[WeightPart, int] = {}
        if group.mixer is not None:
            once[_mixer_part(group.mixer)] = mixer_parameters(group.mixer, h)
        if group.mlp is not None:
            once |= feed_forward_parameters(group.mlp, h)
            passed = active_feed_forward_parameters(group.mlp, h)
        for part, count in once.items():
            parts[part] = parts.get(part, 0) + group.count * count
            active[part] = active.get(part, 0) + group.count * passed.get(part, count)
    if model.vision is not None:
        parts["vision"] = vision_parameters(model.vision)
    if model.audio is not None:
        parts["audio"] = audio_parameters(model.audio)
    return ParameterCounts(parts=parts, active_parts=active)


def _mixer_part(mixer: Mixer) -> WeightPart:
    return "mamba" if isinstance(mixer, Mamba2 | GatedDeltaNet) else "attention"


def mixer_parameters(mixer: Mixer, hidden_size: int) -> int:
    """Count the parameters of one layer's token mixer; equations in the module's docstring."""
    match mixer:
        case Attention():
            return _attention(mixer, hidden_size)
        case LatentAttention():
            return _latent_attention(mixer, hidden_size)
        case Mamba2():
            return _mamba2(mixer, hidden_size)
        case GatedDeltaNet():
            return _gated_delta_net(mixer, hidden_size)


def _attention(m: Attention, h: int) -> int:
    q, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    inputs = q * (2 if m.output_gate else 1) + kv * (1 if m.value_is_key else 2)
    biases = inputs * m.qkv_bias + h * m.output_bias
    return h * inputs + q * h + biases + m.heads * m.sinks + 2 * m.head_dim * m.qk_norm


def _latent_attention(m: LatentAttention, h: int) -> int:
    q_width = m.heads * (m.qk_nope_head_dim + m.qk_rope_head_dim)
    queries = h * q_width if m.q_lora_rank is None else m.q_lora_rank * (h + q_width + 1)
    compressed = h * (m.kv_lora_rank + m.qk_rope_head_dim) + m.kv_lora_rank
    expanded = m.kv_lora_rank * m.heads * (m.qk_nope_head_dim + m.v_head_dim)
    return queries + compressed + expanded + m.heads * m.v_head_dim * h


def _mamba2(m: Mamba2, h: int) -> int:
    inner = m.heads * m.head_dim
    convolved = inner + 2 * m.groups * m.state_size
    projected_in = h * (inner + convolved + m.heads)
    return projected_in + convolved * (m.conv_kernel + m.conv_bias) + 3 * m.heads + inner + inner * h


def _gated_delta_net(m: GatedDeltaNet, h: int) -> int:
    key, value = m.key_heads * m.key_head_dim, m.value_heads * m.value_head_dim
    projected_in = h * (2 * key + 2 * value + 2 * m.value_heads)
    return projected_in + (2 * key + value) * m.conv_kernel + 2 * m.value_heads + m.value_head_dim + value * h


def feed_forward_parameters(mlp: FeedForward, hidden_size: int) -> dict[WeightPart, int]:
    """Count the parameters of one layer's feed-forward part, by part."""
    h = hidden_size
    if isinstance(mlp, DenseMlp):
        width = mlp.intermediate_size
        matrices = _matrices(mlp.gated)
        return {"mlp": matrices * h * width + mlp.bias * ((matrices - 1) * width + h)}
    parts: dict[WeightPart, int] = {
        "experts": mlp.num_experts * _expert(mlp, h),
        "router": h * mlp.num_experts + mlp.num_experts * mlp.router_bias,
    }
    if mlp.shared_intermediate_size:
        shared = _matrices(mlp.gated) * h * mlp.shared_intermediate_size
        parts["shared_experts"] = shared + h * mlp.shared_gate
    return parts


def active_feed_forward_parameters(mlp: FeedForward, hidden_size: int) -> dict[WeightPart, int]:
    """Count what one token passes of the parts that not every token passes whole."""
    if isinstance(mlp, DenseMlp):
        return {}
    return {"experts": min(mlp.experts_per_token, mlp.num_experts) * _expert(mlp, hidden_size)}


def _expert(mlp: MoeMlp, h: int) -> int:
    matrices, width = _matrices(mlp.gated), mlp.intermediate_size
    return matrices * h * width + mlp.expert_bias * ((matrices - 1) * width + h)


def _matrices(gated: bool) -> int:
    return 3 if gated else 2


def vision_parameters(encoder: VisionEncoder) -> int:
    """Count the parameters of a vision transformer and its projector."""
    h, width = encoder.hidden_size, encoder.intermediate_size
    head_dim = encoder.head_dim or h // encoder.heads
    attention = 4 * h * encoder.heads * head_dim + encoder.attention_bias * 4 * h
    matrices = _matrices(encoder.gated_mlp)
    mlp = matrices * h * width + (matrices - 1) * width + h
    patch = IMAGE_CHANNELS * encoder.temporal_patch_size * encoder.patch_size_px**2 * h
    tables = encoder.position_embeddings * h
    return encoder.layers * (attention + mlp + 4 * h) + patch + tables + projector_parameters(encoder.projector)


def audio_parameters(encoder: AudioEncoder) -> int:
    """Count the parameters of an audio transformer, its convolutions and its projector."""
    h, width = encoder.hidden_size, encoder.intermediate_size
    layer = 4 * h * h + 4 * h + 2 * h * width + width + h + 4 * h
    return encoder.layers * layer + encoder.conv_params + projector_parameters(encoder.projector)


def projector_parameters(projector: Projector) -> int:
    """Count the parameters of the linear layers between an encoder and the language model."""
    return projector.copies * sum(i * o + o * projector.bias for i, o in projector.linears)


def diffusion_parameters(model: DiffusionArchitecture) -> int:
    """Count the parameters of a diffusion transformer, without text encoders and autoencoder.

    >>> from joulemap.catalog import load_catalog
    >>> round(diffusion_parameters(load_catalog().model("FLUX.1 Dev")) / 1e9, 1)
    11.9
    """
    blocks = sum(group.count * diffusion_block_parameters(group) for group in model.blocks)
    return blocks + _linears(model.embedder_linears) + model.other_params


def diffusion_block_parameters(group: DiffusionBlockGroup) -> int:
    """Count the parameters of one transformer block of a diffusion model."""
    h, width = group.hidden_size, group.mlp_intermediate_size
    inner = group.heads * group.head_dim
    queries_keys_values, output = _linears([(h, inner)] * 3), _linears([(inner, h)])
    up = width * (2 if group.gated_mlp else 1)
    mlp = _linears([(h, up), (width, h)]) + (up * group.mlp_conv_kernel**2 if group.mlp_conv_kernel else 0)
    count = group.streams * (queries_keys_values + output + mlp)
    if group.text_ends:
        count -= output + mlp
    if group.extra_self_attention:
        count += queries_keys_values + output
    if group.cross_attention_dim is not None:
        count += _linears([(h, inner), (group.cross_attention_dim, 2 * inner), (inner, h)])
    return count + _linears(group.modulation_linears) + _linears(group.token_linears)


def _linears(shapes: Iterable[tuple[int, int]]) -> int:
    return sum(inputs * outputs + outputs for inputs, outputs in shapes)
