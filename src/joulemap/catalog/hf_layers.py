"""The layers of a language model from its Hugging Face config: token mixers, then feed-forward parts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from joulemap.catalog.architecture import (
    Attention,
    AttentionScope,
    DenseMlp,
    FeedForward,
    GatedDeltaNet,
    LatentAttention,
    LayerGroup,
    Mamba2,
    Mixer,
    MoeMlp,
)
from joulemap.catalog.config_reader import MAX_COUNT, ConfigReader

MAX_LAYERS = 10_000
LAYER_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HIDDEN_KEYS = ("hidden_size", "n_embd", "d_model")
HEAD_KEYS = ("num_attention_heads", "n_head", "n_heads")
WIDTH_KEYS = ("intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim")
EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TOP_K_KEYS = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_topk", "moe_top_k", "moe_k")

SCOPES: dict[str, AttentionScope] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
}
LINEAR, MAMBA, MLP, MOE = "linear_attention", "mamba", "mlp", "moe"
PATTERN = {"M": MAMBA, "*": "full_attention", "-": MLP, "E": MOE}
"""Letters of Nemotron-H's ``hybrid_override_pattern``."""


def read_layers(config: ConfigReader, family: dict[str, Any]) -> tuple[LayerGroup, ...]:
    """Return the layers, equal ones grouped, in the order in which each kind first occurs.

    Raises:
        CatalogError: A key that the shape needs is missing, or a value cannot be meant.
    """
    kinds = layer_kinds(config, family)
    if config.first("hybrid_override_pattern", "layers_block_type") is not None:
        return tuple(
            LayerGroup(
                count=n, norms=1, mixer=_mixer(config, family, kind), mlp=_lone_feed_forward(config, family, kind)
            )
            for kind, n in Counter(kinds).items()
        )
    norms = family.get("norms", 2)
    if config.text("model_type") == "mamba2":
        return (LayerGroup(count=len(kinds), norms=1, mixer=_mixer(config, family, MAMBA)),)
    pairs = Counter(zip(kinds, _are_mixtures(config, len(kinds)), strict=True))
    return tuple(
        LayerGroup(
            count=n,
            norms=family.get("moe_norms", norms) if mixture else norms,
            mixer=_mixer(config, family, kind),
            mlp=_mixture(config, family) if mixture else _dense(config, family),
        )
        for (kind, mixture), n in pairs.items()
    )


def layer_kinds(config: ConfigReader, family: dict[str, Any]) -> list[str]:
    """Return the kind of each layer's mixer, in order."""
    pattern = config.text("hybrid_override_pattern")
    if pattern:
        unknown = set(pattern) - set(PATTERN)
        if unknown or len(pattern) > MAX_LAYERS:
            config.reject("hybrid_override_pattern", f"may hold only {''.join(PATTERN)}, at most {MAX_LAYERS}")
        return _checked(config, "hybrid_override_pattern", [PATTERN[letter] for letter in pattern])
    for key in ("layers_block_type", "layer_types"):
        given = config.texts(key)
        if given:
            return _checked(config, key, [_kind(config, key, name) for name in given])
    if config.has("attn_layer_indices") or config.has("mamba_n_heads"):
        attends = set(config.integers("attn_layer_indices"))
        count = config.integer(*LAYER_KEYS, high=MAX_LAYERS)
        return ["full_attention" if i in attends else MAMBA for i in range(count)]
    count = config.integer(*LAYER_KEYS, high=MAX_LAYERS)
    return [_default_kind(config, family, i) for i in range(count)]


def _checked(config: ConfigReader, key: str, kinds: list[str]) -> list[str]:
    count = config.integer(*LAYER_KEYS, default=len(kinds), high=MAX_LAYERS)
    if len(kinds) != count:
        config.reject(key, f"names {len(kinds)} layers, but there are {count}")
    return kinds


def _kind(config: ConfigReader, key: str, name: str) -> str:
    known = {"mamba2": MAMBA, "attention": "full_attention", MLP: MLP, MOE: MOE, MAMBA: MAMBA, LINEAR: LINEAR}
    kind = known.get(name, name)
    if kind == LINEAR and config.first("mamba_num_heads", "mamba_n_heads") is not None:
        kind = MAMBA  # Transformers 5 writes so of any recurrent layer
    if kind not in SCOPES and kind not in (MAMBA, LINEAR, MLP, MOE):
        config.reject(key, f"names a kind of layer that is not known: {name[:60]!r}")
    return kind


def _default_kind(config: ConfigReader, family: dict[str, Any], i: int) -> str:
    if config.has("attention_chunk_size"):
        chunked = config.integers("no_rope_layers")
        every = family.get("full_attention_every", 4)
        full = not chunked[i] if i < len(chunked) else (i + 1) % every == 0
        return "full_attention" if full else "chunked_attention"
    if config.has("linear_num_value_heads"):
        every = config.integer("full_attention_interval", default=4)
        return "full_attention" if (i + 1) % every == 0 else LINEAR
    if not config.has("sliding_window") or (
        not config.flag("use_sliding_window", default=not family.get("sliding_needs_flag", False))
    ):
        return "full_attention"
    if family.get("sliding_needs_flag"):
        return (
            "sliding_attention" if i >= config.integer("max_window_layers", default=0, low=0) else "full_attention"
        )
    pattern = config.integer("sliding_window_pattern", default=family.get("sliding_pattern", 0), low=0)
    return "full_attention" if pattern and (i + 1) % pattern == 0 else "sliding_attention"


def _mixer(config: ConfigReader, family: dict[str, Any], kind: str) -> Mixer | None:
    if kind in (MLP, MOE):
        return None
    if kind == MAMBA:
        return _mamba2(config)
    if kind == LINEAR:
        return GatedDeltaNet(
            key_heads=config.integer("linear_num_key_heads", high=MAX_COUNT),
            value_heads=config.integer("linear_num_value_heads", high=MAX_COUNT),
            key_head_dim=config.integer("linear_key_head_dim"),
            value_head_dim=config.integer("linear_value_head_dim"),
            conv_kernel=config.integer("linear_conv_kernel_dim", default=4),
        )
    if config.has("kv_lora_rank"):
        return LatentAttention(
            heads=config.integer(*HEAD_KEYS, high=MAX_COUNT),
            q_lora_rank=config.integer("q_lora_rank") if config.has("q_lora_rank") else None,
            kv_lora_rank=config.integer("kv_lora_rank"),
            qk_nope_head_dim=config.integer("qk_nope_head_dim"),
            qk_rope_head_dim=config.integer("qk_rope_head_dim"),
            v_head_dim=config.integer("v_head_dim"),
        )
    return _attention(config, family, SCOPES[kind])


def _attention(config: ConfigReader, family: dict[str, Any], scope: AttentionScope) -> Attention:
    heads = config.integer(*HEAD_KEYS, high=MAX_COUNT)
    shared = 1 if config.flag("multi_query") and not config.flag("new_decoder_architecture") else heads
    kv_heads = config.integer("num_key_value_heads", "num_kv_heads", "n_head_kv", default=shared, high=MAX_COUNT)
    if shared == 1:
        kv_heads = 1
    hidden = config.integer(*HIDDEN_KEYS)
    head_dim = config.integer("head_dim", "attention_head_dim", default=max(hidden // heads, 1))
    value_is_key = False
    if scope == "full" and config.has("global_head_dim"):
        # Gemma 4: full layers have wider heads, fewer of them for keys, and values that are the keys.
        head_dim = config.integer("global_head_dim")
        value_is_key = config.flag("attention_k_eq_v")
        if value_is_key:
            kv_heads = config.integer("num_global_key_value_heads", default=kv_heads, high=MAX_COUNT)
    if kv_heads > heads:
        config.reject("num_key_value_heads", f"cannot exceed the {heads} attention heads: {kv_heads}")
    window_key = "attention_chunk_size" if scope == "chunked" else "sliding_window"
    bias = config.flag("attention_bias")
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        scope=scope,
        window_tokens=None if scope == "full" else config.integer(window_key),
        qkv_bias=bias or family.get("qkv_bias", False),
        output_bias=(bias and family.get("biased_output", True)) or family.get("output_bias", False),
        qk_norm=family.get("qk_norm", False)
        or (config.flag("use_qk_norm") and not config.has("attention_chunk_size")),
        value_is_key=value_is_key,
        output_gate=family.get("output_gate", False),
        sinks=family.get("sinks", False),
    )


def _mamba2(config: ConfigReader) -> Mamba2:
    heads = config.integer("mamba_num_heads", "mamba_n_heads", "num_heads", high=MAX_COUNT)
    inner = config.integer("expand", "mamba_expand", default=2, high=64) * config.integer(*HIDDEN_KEYS)
    precision = config.text("mamba_ssm_cache_dtype", default="float32")
    return Mamba2(
        heads=heads,
        head_dim=config.integer("mamba_head_dim", "mamba_d_head", "head_dim", default=max(inner // heads, 1)),
        state_size=config.integer("ssm_state_size", "mamba_d_state", "state_size", "mamba_state_dim"),
        groups=config.integer("n_groups", "mamba_n_groups", "mamba_num_groups", default=1, high=MAX_COUNT),
        conv_kernel=config.integer("conv_kernel", "mamba_d_conv", default=4, high=1024),
        conv_bias=config.flag("use_conv_bias", default=True),
        state_precision="bf16" if precision in ("bfloat16", "float16") else "fp32",
    )


def _lone_feed_forward(config: ConfigReader, family: dict[str, Any], kind: str) -> FeedForward | None:
    """Return what a feed-forward layer of a hybrid model holds; its matrices are two (squared ReLU)."""
    family = {**family, "gated": False}
    if kind == MLP:
        return _dense(config, family)
    return _mixture(config, family) if kind == MOE else None


def _are_mixtures(config: ConfigReader, count: int) -> list[bool]:
    if config.first(*EXPERT_KEYS) is None or config.integer(*EXPERT_KEYS, low=0, high=MAX_COUNT) < 2:
        return [False] * count
    if config.has("enable_moe_block") and not config.flag("enable_moe_block"):
        return [False] * count
    dense_first = config.integer("first_k_dense_replace", default=0, low=0, high=MAX_LAYERS)
    dense = set(config.integers("mlp_only_layers"))
    step = config.integer("interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_freq", default=1)
    return [i >= dense_first and i not in dense and (i + 1) % step == 0 for i in range(count)]


def _dense(config: ConfigReader, family: dict[str, Any]) -> DenseMlp:
    hidden = config.integer(*HIDDEN_KEYS)
    gated = family.get("gated", True)
    keys = ("intermediate_size_mlp", *WIDTH_KEYS)  # Llama 4 gives its dense layers' width apart
    width = config.integer(*keys) if gated else config.integer(*keys, default=4 * hidden)
    return DenseMlp(
        intermediate_size=width, gated=gated, bias=config.flag("mlp_bias") or family.get("mlp_bias", False)
    )


def _mixture(config: ConfigReader, family: dict[str, Any]) -> MoeMlp:
    experts = config.integer(*EXPERT_KEYS, low=2, high=MAX_COUNT)
    active = config.integer(*TOP_K_KEYS, high=MAX_COUNT)
    if active > experts:
        config.reject(config.first(*TOP_K_KEYS) or "", f"cannot exceed the {experts} experts: {active}")
    width = config.integer("moe_intermediate_size", "expert_intermediate_size", *WIDTH_KEYS)
    return MoeMlp(
        num_experts=experts,
        experts_per_token=active,
        intermediate_size=width,
        gated=family.get("gated", True),
        expert_bias=family.get("expert_bias", False),
        router_bias=family.get("router_bias", False) or config.text("topk_method") == "noaux_tc",
        shared_intermediate_size=_shared_width(config, width),
        shared_gate=family.get("shared_gate", False) and config.has("shared_expert_intermediate_size"),
    )


def _shared_width(config: ConfigReader, expert_width: int) -> int:
    key = config.first(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size"
    )
    number = config.integer(
        "n_shared_experts", "num_shared_experts", "num_shared_expert", default=1, low=0, high=MAX_COUNT
    )
    if key is not None:
        return number * config.integer(key, low=0)
    if config.first("n_shared_experts", "num_shared_experts", "num_shared_expert") is not None:
        return number * expert_width
    if config.has("attention_chunk_size"):
        return expert_width  # Llama 4 has one shared expert of the routed ones' width
    if config.flag("enable_moe_block"):
        return config.integer(*WIDTH_KEYS)  # Gemma 4 has a dense part beside its experts
    return 0
