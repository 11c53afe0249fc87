"""The embedded engine: llama.cpp as a child process on the loopback interface.

It serves a small model with random weights, or any GGUF file, through the OpenAI API with continuous
batching, a KV cache and ``/metrics``: a real engine to measure where there is no server.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import gguf as gguf_format

from joulemap.errors import EnvironmentLacksError, InputError, ServerError
from joulemap.measure.engines.cores import split_cores
from joulemap.measure.engines.tiny_model import tiny_model
from joulemap.measure.load.target import Target
from joulemap.records.deployment import Deployment
from joulemap.units import PARAMS_PER_BILLION

ENGINE = "llama.cpp"
PACKAGE = "xllamacpp"
MODEL_ALIAS = "joulemap-embedded"
READY_WITHIN_S = 120.0
"""Time for the engine to load its model; a large GGUF file comes from disk at 1 GB/s or so."""
END_WITHIN_S = 5.0
PRECISIONS = {"ALL_F32": "float32", "MOSTLY_F16": "float16", "MOSTLY_BF16": "bfloat16"}
"""GGUF's file types in the words of other sources; the rest keep their own, for example ``q4_k_m``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a GGUF file says of its model; ``None`` where it says nothing."""

    name: str
    architecture: str
    weight_precision: str | None
    total_params: int
    layers: int | None
    hidden_size: int | None
    attention_heads: int | None
    kv_heads: int | None
    head_size: int | None
    weight_bytes: int
    """Bytes of all tensors."""

    @property
    def kv_bytes_per_token(self) -> int | None:
        """KV cache of one token, with keys and values in float16."""
        if self.layers is None or self.kv_heads is None or self.head_size is None:
            return None
        return 2 * 2 * self.layers * self.kv_heads * self.head_size


def model_facts(path: Path) -> ModelFacts:
    """Read what a GGUF file says of its model.

    Args:
        path: The file.

    Raises:
        InputError: It is no GGUF file.
    """
    try:
        reader = gguf_format.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        msg = f"{path} is no GGUF file: {error}"
        raise InputError(msg) from error

    def field(key: str) -> Any:
        found = reader.get_field(key)
        return None if found is None else found.contents()

    architecture = str(field("general.architecture") or "unknown")
    hidden, heads = field(f"{architecture}.embedding_length"), field(f"{architecture}.attention.head_count")
    heads = heads if isinstance(heads, int) else None
    kv_heads = field(f"{architecture}.attention.head_count_kv")
    head_size = field(f"{architecture}.attention.key_length")
    if head_size is None and hidden and heads:
        head_size = hidden // heads
    kind = field("general.file_type")
    precision = gguf_format.LlamaFileType(kind).name if kind is not None else None
    if precision is not None:
        precision = PRECISIONS.get(precision, precision.removeprefix("MOSTLY_").lower())
    return ModelFacts(
        name=str(field("general.name") or path.stem),
        architecture=architecture,
        weight_precision=precision,
        total_params=sum(int(tensor.n_elements) for tensor in reader.tensors),
        layers=field(f"{architecture}.block_count"),
        hidden_size=hidden,
        attention_heads=heads,
        # Some models have other counts in every layer; then there is no one number to give.
        kv_heads=kv_heads if isinstance(kv_heads, int) else heads if kv_heads is None else None,
        head_size=head_size,
        weight_bytes=sum(int(tensor.n_bytes) for tensor in reader.tensors),
    )


class EmbeddedEngine:
    """A running llama.cpp server, for as long as the ``with`` block lasts, and never longer than its parent.

    Args:
        gguf: The model's file; by default a small Llama with random weights, written on first use.
        parallel: Requests that run together (slots).
        threads: Threads that compute; by default all cores but one, which is the load client's.
        context_tokens: Longest prompt and reply together.

    Raises:
        EnvironmentLacksError: There is no llama.cpp for this machine, or the model cannot be written.
        InputError: The file is no GGUF file.
        ServerError: The engine did not start.
    """

    def __init__(
        self,
        gguf: Path | None = None,
        *,
        parallel: int = 8,
        threads: int | None = None,
        context_tokens: int = 2048,
    ) -> None:
        if importlib.util.find_spec(PACKAGE) is None:
            msg = f"the embedded engine needs {PACKAGE} (llama.cpp), which has no build for this machine"
            raise EnvironmentLacksError(msg, fix="joulemap measure URL measures a server of your own")
        self.path = gguf if gguf is not None else tiny_model()
        self.facts = model_facts(self.path)
        self.parallel = parallel
        self.cores = split_cores()
        self.threads = threads or len(self.cores.engine) or max(1, (os.cpu_count() or 2) - 1)
        self.context_tokens = context_tokens
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "joulemap.measure.engines.llamacpp_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C is the session's to handle: the engine must answer until its load has been ended.
            start_new_session=True,
        )
        try:
            self.url = self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> str:
        settings = {
            "model": str(self.path),
            "alias": MODEL_ALIAS,
            "parallel": self.parallel,
            "context_tokens": self.context_tokens,
            "threads": self.threads,
            "cores": self.cores.engine,
        }
        stdin, stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        impatience = threading.Timer(READY_WITHIN_S, self._process.kill)
        impatience.daemon = True
        impatience.start()
        try:
            stdin.write(json.dumps(settings).encode() + b"\n")
            stdin.flush()
            address = stdout.readline().decode().strip()
        except OSError:
            address = ""
        finally:
            impatience.cancel()
        if not address:
            self._process.wait(END_WITHIN_S)
            msg = f"the embedded engine did not start with {self.path}: {self.last_words()}"
            raise ServerError(msg)
        return address

    @property
    def metrics_url(self) -> str:
        """Where the engine tells its counters."""
        return f"{self.url}/metrics"

    @property
    def pid(self) -> int:
        """The engine's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the engine still runs."""
        return self._process.poll() is None

    def target(self) -> Target:
        """Return the engine as the load client's target."""
        return Target(url=self.url, model=MODEL_ALIAS)

    def deployment(self) -> Deployment:
        """Return what serves the work."""
        return Deployment(
            model_id=self.facts.name,
            architecture="Dense" if "moe" not in self.facts.architecture else "MoE",
            total_params_billions=self.facts.total_params / PARAMS_PER_BILLION,
            weight_precision=self.facts.weight_precision,
            kv_cache_precision="float16",
            max_num_seqs=self.parallel,
            max_model_len=self.context_tokens,
            engine=ENGINE,
            engine_version=importlib.metadata.version(PACKAGE),
        )

    def last_words(self) -> str:
        """Return the last line that the engine logged, and its exit code if it has ended."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        code = self._process.poll()
        ended = "" if code is None else f"exit code {code}; "
        return ended + (lines[-1] if lines else "it logged nothing")

    def stop(self) -> None:
        """End the engine and wait until it is gone; a second call does nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        cast(IO[bytes], self._process.stdout).close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
