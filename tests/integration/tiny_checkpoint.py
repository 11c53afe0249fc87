"""A checkpoint folder without weights: configuration and tokenizer, for engines that can make up the weights."""

from __future__ import annotations

import json
from itertools import islice, product
from pathlib import Path

from joulemap.measure.load.prompts import WORDS

VOCABULARY = 8192
LAYERS = 4
HIDDEN_SIZE = 256
KV_HEADS = 4
HEAD_SIZE = 32
CONTROL = ("<unk>", "<s>", "</s>")
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_checkpoint(folder: Path) -> Path:
    """Write a small Llama whose tokens are words, so that whatever it answers is text; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", _config()),
        ("tokenizer.json", _tokenizer()),
        ("tokenizer_config.json", _tokenizer_config()),
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


def _tokenizer() -> dict[str, object]:
    syllables = [consonant + vowel for consonant in "bdklmnrst" for vowel in "aeiou"]
    made_up = ("".join(parts) for parts in product(syllables, repeat=3))
    words = dict.fromkeys((*CONTROL, *WORDS))
    words |= dict.fromkeys(islice((w for w in made_up if w not in words), VOCABULARY - len(words)))
    special = [
        {
            "id": number,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, word in enumerate(CONTROL)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
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


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": CONTROL[0],
        "bos_token": CONTROL[1],
        "eos_token": CONTROL[2],
        "chat_template": CHAT_TEMPLATE,
    }
