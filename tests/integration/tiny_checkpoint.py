"""A checkpoint folder without weights: configuration and tokenizer, for engines that can make up the weights."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.gpu.make_checkpoint import TOKENIZER_CONFIG, tokenizer_of

VOCABULARY = 8192
LAYERS = 4
HIDDEN_SIZE = 256
KV_HEADS = 4
HEAD_SIZE = 32


def write_checkpoint(folder: Path) -> Path:
    """Write a small Llama whose tokens are words, so that whatever it answers is text; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", _config()),
        ("tokenizer.json", tokenizer_of(VOCABULARY)),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ):
        (folder / name).write_text(json.dumps(content))
    return folder


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 4 * HIDDEN_SIZE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HIDDEN_SIZE // HEAD_SIZE,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "vocab_size": VOCABULARY,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
