"""A tokenizer for the clients that insist on one: a thousand words, a token each."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = 1000


def write_tokenizer(folder: Path) -> None:
    """Write the files that ``transformers`` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["<unk>", "</s>", *(f"w{number}" for number in range(WORDS))]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": words[number], **special} for number in (0, 1)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(words)},
            "unk_token": "<unk>",
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "eos_token": "</s>",
        "model_max_length": 1_000_000,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
