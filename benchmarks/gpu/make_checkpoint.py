"""Writes a model of the catalog as a checkpoint folder without weights: ``make_checkpoint.py MODEL FOLDER``.

A server that can make up weights (vLLM's ``--load-format dummy``) then serves the real shape, with nothing
downloaded. Tokens are words, so that whatever it answers is text; how tokens are sampled is as the publishers of
the models ask, since sorting the vocabulary takes time that a plain draw does not.
"""

from __future__ import annotations

import json
import sys
from itertools import islice, product
from pathlib import Path
from typing import Any

from joulemap.catalog import load_catalog
from joulemap.catalog.architecture import Attention, DenseMlp, ModelArchitecture
from joulemap.measure.load.prompts import WORDS

CONTROL = ("<unk>", "<s>", "</s>")
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": CONTROL[0],
    "bos_token": CONTROL[1],
    "eos_token": CONTROL[2],
    "chat_template": CHAT_TEMPLATE,
}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # Sources: the publishers' config.json and generation_config.json.
    "Qwen/Qwen3": (
        {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rope_theta": 1_000_000.0},
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
    ),
    "meta-llama/Llama-3.1": (
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 500_000.0},
        {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
    ),
}


def config_of(model_id: str) -> dict[str, Any]:
    """Return the fields of config.json."""
    model = load_catalog().model(model_id)
    assert isinstance(model, ModelArchitecture), "a language model"
    (group,) = model.layers
    mixer, mlp = group.mixer, group.mlp
    assert isinstance(mixer, Attention), "attention in every layer"
    assert isinstance(mlp, DenseMlp), "dense layers"
    fields, _ = next(known for name, known in FAMILIES.items() if model.id.startswith(name))
    return fields | {
        "dtype": "bfloat16",
        "hidden_size": model.hidden_size,
        "intermediate_size": mlp.intermediate_size,
        "num_hidden_layers": group.count,
        "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.kv_heads,
        "head_dim": mixer.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": model.max_context_tokens,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": model.tied_embeddings,
        "vocab_size": model.vocab_size,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def tokenizer_of(vocabulary: int) -> dict[str, Any]:
    """Return the fields of tokenizer.json: so many words, a token each."""
    syllables = [consonant + vowel for consonant in "bdfghjklmnprstvwz" for vowel in "aeiou"]
    made_up = ("".join(parts) for count in (3, 4) for parts in product(syllables, repeat=count))
    words = dict.fromkeys((*CONTROL, *WORDS))
    words |= dict.fromkeys(islice((w for w in made_up if w not in words), vocabulary - len(words)))
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": word, **special} for number, word in enumerate(CONTROL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(words)},
            "unk_token": CONTROL[0],
        },
    }


def main() -> None:
    model_id, folder = sys.argv[1], Path(sys.argv[2])
    config = config_of(model_id)
    _, sampling = next(known for name, known in FAMILIES.items() if model_id.startswith(name))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", config),
        ("generation_config.json", sampling | {"bos_token_id": 1, "eos_token_id": 2}),
        ("tokenizer.json", tokenizer_of(config["vocab_size"])),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ):
        (folder / name).write_text(json.dumps(content))
    print(f"Wrote {folder}: {model_id} without weights")


if __name__ == "__main__":
    main()
