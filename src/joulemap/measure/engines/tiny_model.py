"""A small Llama with random weights, written as GGUF: a real architecture for a real engine, only without sense.

Its vocabulary holds the words of synthetic prompts whole, so that a word is a token, and beyond them made-up
words, so that whatever it answers is text.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice, product
from pathlib import Path

import gguf
import numpy as np
import platformdirs

from joulemap.errors import EnvironmentLacksError
from joulemap.measure.load.prompts import WORDS

FORMAT_VERSION = 1
"""Part of the file's name: raise it when the same spec gives another file."""
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
SPACE = "\u2581"
"""What SentencePiece writes for a space."""
SYLLABLES = tuple(consonant + vowel for consonant in "bdkl" for vowel in "aeiou")
BYTE_TOKENS = 256
CONTROL_TOKENS = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyModelSpec:
    """The shape of the model (Llama: grouped-query attention, gated feed-forward, RMS norm)."""

    layers: int = 4
    hidden_size: int = 256
    feed_forward_size: int = 1024
    attention_heads: int = 8
    kv_heads: int = 4
    vocabulary: int = 8192
    context_tokens: int = 32_768
    seed: int = 0

    @property
    def head_size(self) -> int:
        """Numbers of one head."""
        return self.hidden_size // self.attention_heads

    @property
    def total_params(self) -> int:
        """Numbers in the weights."""
        return sum(int(np.prod(shape)) for _, shape in self.tensors())

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape (output × input) of each tensor."""
        hidden, kv = self.hidden_size, self.kv_heads * self.head_size
        yield "token_embd.weight", (self.vocabulary, hidden)
        yield "output_norm.weight", (hidden,)
        yield "output.weight", (self.vocabulary, hidden)
        for layer in range(self.layers):
            for name, shape in (
                ("attn_norm", (hidden,)),
                ("attn_q", (hidden, hidden)),
                ("attn_k", (kv, hidden)),
                ("attn_v", (kv, hidden)),
                ("attn_output", (hidden, hidden)),
                ("ffn_norm", (hidden,)),
                ("ffn_gate", (self.feed_forward_size, hidden)),
                ("ffn_up", (self.feed_forward_size, hidden)),
                ("ffn_down", (hidden, self.feed_forward_size)),
            ):
                yield f"blk.{layer}.{name}.weight", shape


def tiny_model(spec: TinyModelSpec | None = None, *, folder: Path | None = None) -> Path:
    """Return the model's file, which is written on first use.

    Args:
        spec: The model's shape.
        folder: Where to keep it; by default the user's cache.

    Raises:
        EnvironmentLacksError: The file cannot be written.
    """
    spec = spec or TinyModelSpec()
    described = json.dumps([FORMAT_VERSION, asdict(spec)], sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:12]
    folder = folder or platformdirs.user_cache_path("joulemap") / "engines"
    path = folder / f"tiny-llama-{digest}.gguf"
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".part", dir=folder)
        os.close(handle)
        try:
            _write(spec, name)
            # Renamed when whole: a process that is killed here, or runs beside this one, leaves no half file.
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        msg = f"the embedded engine's model cannot be written to {folder}: {error}"
        raise EnvironmentLacksError(msg, fix="set XDG_CACHE_HOME to a folder with 20 MB to spare") from error
    return path


def _write(spec: TinyModelSpec, path: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("joulemap tiny llama, random weights")
    writer.add_context_length(spec.context_tokens)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(spec.layers)
    writer.add_feed_forward_length(spec.feed_forward_size)
    writer.add_head_count(spec.attention_heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_rope_dimension_count(spec.head_size)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(spec.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_vocabulary(writer, spec.vocabulary)
    random = np.random.default_rng(spec.seed)
    for name, shape in spec.tensors():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            # Variance 1 ÷ inputs keeps activations of order one from layer to layer.
            weights = random.standard_normal(shape, np.float32) / np.sqrt(shape[-1])
            writer.add_tensor(name, weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    kinds = gguf.TokenType
    tokens = [*CONTROL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(BYTE_TOKENS))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * BYTE_TOKENS]
    pieces = list(islice(_pieces(), size - len(tokens)))
    tokens += pieces
    types += [kinds.NORMAL] * len(pieces)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    # SentencePiece joins the pair with the highest score first: longer pieces win.
    writer.add_token_scores([float(len(token)) for token in tokens])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _pieces() -> Iterator[str]:
    """Yield every beginning of every word, so that a word can be joined from its left; then made-up words."""
    seen = set()
    for word in WORDS:
        marked = SPACE + word
        for piece in (*marked, *(marked[:end] for end in range(2, len(marked) + 1))):
            if piece not in seen:
                seen.add(piece)
                yield piece
    for syllables in count(2):
        for parts in product(SYLLABLES, repeat=syllables):
            made_up = SPACE + "".join(parts)
            if made_up not in seen:
                seen.add(made_up)
                yield made_up
