"""vLLM's server."""

from __future__ import annotations

from joulemap.measure.engines.engine import Serving, precision_words


class Vllm:
    """``vllm serve``."""

    name = "vllm"
    uses_gpus = True
    image: str | None = "vllm/vllm-openai:latest"

    def command(self, serving: Serving) -> list[str]:
        """Return the command."""
        words = ["vllm", "serve", serving.model, "--host", serving.host, "--port", str(serving.port)]
        words += ["--tensor-parallel-size", str(serving.tensor_parallel)]
        words += ["--max-num-seqs", str(serving.max_num_seqs)]
        words += ["--max-model-len", str(serving.max_model_len)] if serving.max_model_len else []
        words += ["--enable-expert-parallel"] if serving.expert_parallel else []
        words += precision_words(serving.precision, serving.model, flag="--dtype", quantised="--quantization")
        return [*words, *serving.arguments]


ENGINE = Vllm()
