"""The commands that start engines, as processes and in containers."""

from __future__ import annotations

import itertools

import pytest

from joulemap.errors import UnknownNameError, UsageError
from joulemap.measure.engines.engine import Serving
from joulemap.measure.engines.launched import NO_MEMORY, Container
from joulemap.measure.engines.own_command import OwnCommand
from joulemap.measure.engines.registry import engine_named, engine_names, uses_gpus

SERVING = Serving(
    model="Qwen/Qwen3-32B",
    port=8001,
    tensor_parallel=2,
    expert_parallel=True,
    max_num_seqs=64,
    precision="fp8",
    max_model_len=4096,
    arguments=("--x", "y"),
)


def pairs(command: list[str]) -> dict[str, str]:
    return dict(itertools.pairwise(command))


def test_vllm() -> None:
    command = list(engine_named("vllm").command(SERVING))
    assert command[:3] == ["vllm", "serve", "Qwen/Qwen3-32B"]
    told = pairs(command)
    assert told["--tensor-parallel-size"] == "2"
    assert told["--max-num-seqs"] == "64"
    assert told["--quantization"] == "fp8"
    assert told["--max-model-len"] == "4096"
    assert (told["--host"], told["--port"]) == ("127.0.0.1", "8001")
    assert "--enable-expert-parallel" in command
    assert command[-2:] == ["--x", "y"]


def test_sglang() -> None:
    command = list(engine_named("sglang").command(SERVING))
    assert command[:3] == ["python3", "-m", "sglang.launch_server"]
    told = pairs(command)
    assert told["--model-path"] == "Qwen/Qwen3-32B"
    assert (told["--tp-size"], told["--ep-size"], told["--max-running-requests"]) == ("2", "2", "64")
    assert "--enable-metrics" in command


@pytest.mark.parametrize(
    ("precision", "model", "words"),
    [
        ("bfloat16", "org/m", ["--dtype", "bfloat16"]),
        ("fp8", "org/m-FP8", []),
        (None, "org/m", []),
        ("auto", "org/m", []),
    ],
)
def test_a_precision_is_asked_for_where_it_is_not_the_models_own(
    precision: str | None, model: str, words: list[str]
) -> None:
    serving = Serving(model=model, port=1, precision=precision)
    command = list(engine_named("vllm").command(serving))
    assert [w for w in command if w in {"--dtype", "--quantization", "bfloat16", "fp8"}] == words


def test_a_command_of_ones_own() -> None:
    own = OwnCommand(("serve", "{model}", "--at={host}:{port}", "-n", "{max_num_seqs}", "{{}}"))
    assert own.command(SERVING) == ["serve", "Qwen/Qwen3-32B", "--at=127.0.0.1:8001", "-n", "64", "{}", "--x", "y"]
    with pytest.raises(UsageError, match="placeholder"):
        OwnCommand(("serve", "{modle}")).command(SERVING)


@pytest.mark.parametrize(
    ("runtime", "gpus"),
    [
        ("docker", ["--gpus", '"device=GPU-a,GPU-b"']),
        ("podman", ["--device", "nvidia.com/gpu=GPU-a", "--device", "nvidia.com/gpu=GPU-b"]),
    ],
)
def test_a_container_owns_its_gpus_and_listens_on_loopback_only(runtime: str, gpus: list[str]) -> None:
    container = Container(image="im:1", runtime=runtime, mounts=("/a:/b:ro",), gpus=("GPU-a", "GPU-b"))
    command = container.command(["vllm", "serve", "m"], 8001, {"HF_TOKEN": "secret"})
    text = " ".join(command)
    assert " ".join(gpus) in text
    assert "--publish 127.0.0.1:8001:8001" in text
    assert "--volume /a:/b:ro" in text
    assert text.endswith("--entrypoint vllm im:1 serve m")
    # The list of processes shows names of variables, never values.
    assert "--env HF_TOKEN" in text
    assert "secret" not in text
    assert container.removal() == [runtime, "rm", "--force", container.name]


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
        "ValueError: The model's max seq len (40960) is larger than the maximum number of tokens",
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
    ],
)
def test_what_engines_say_where_memory_lacks_is_known(line: str) -> None:
    assert NO_MEMORY.search(line)
    assert not NO_MEMORY.search("RuntimeError: CUDA error: an illegal memory access was encountered")


def test_names() -> None:
    assert engine_names()[:4] == ["embedded", "vllm", "sglang", "command"]
    assert [uses_gpus(name) for name in engine_names()[:4]] == [False, True, True, True]
    with pytest.raises(UnknownNameError, match="vlm"):
        engine_named("vlm")
