"""SGLang's server."""

from __future__ import annotations

from joulemap.measure.engines.engine import Serving, precision_words


class Sglang:
    """``python -m sglang.launch_server``, with its metrics switched on."""

    name = "sglang"
    uses_gpus = True
    image: str | None = "lmsysorg/sglang:latest"

    def command(self, serving: Serving) -> list[str]:
        """Return the command."""
        words = ["python3", "-m", "sglang.launch_server", "--model-path", serving.model]
        words += ["--host", serving.host, "--port", str(serving.port), "--enable-metrics"]
        words += ["--tp-size", str(serving.tensor_parallel)]
        words += ["--max-running-requests", str(serving.max_num_seqs)]
        words += ["--context-length", str(serving.max_model_len)] if serving.max_model_len else []
        words += ["--ep-size", str(serving.tensor_parallel)] if serving.expert_parallel else []
        words += precision_words(serving.precision, serving.model, flag="--dtype", quantised="--quantization")
        return [*words, *serving.arguments]


ENGINE = Sglang()
