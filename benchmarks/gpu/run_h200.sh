#!/usr/bin/env bash
# Runs joulemap on a real GPU; each stage is bounded in time, and one that fails does not stop the next.
# Usage: benchmarks/gpu/run_h200.sh OUT STAGE…   (stages: look, calls, meters, sweep, qwen, long, fp8, serve, diffusion)
# Each line of stages below keeps to one call of ten minutes: "look calls qwen", "fp8 serve", "diffusion".
set -uo pipefail
out="$1"
shift
export JOULEMAP_STORE="$out/store" PYTHONPATH="${PYTHONPATH:-}:$PWD/src" PYTHONUNBUFFERED=1 NO_COLOR=1 COLUMNS=140
joulemap() { timeout "${LIMIT:-240}" python3 -m joulemap "$@"; }
llm() { joulemap measure --transformers "$1" --random-weights "${@:2}" --json >>"$out/runs.jsonl"; }
conversation=(--input-tokens 200 --output-tokens 600)
context=(--input-tokens 8000 --output-tokens 1000)
pace=(--windows 3 --warm-up 12 --duration 40)
llama=meta-llama/Llama-3.1-8B-Instruct

for stage in "$@"; do
  echo "=== $stage at $(date -u +%T)"
  case "$stage" in
    look) nvidia-smi --query-gpu=name,driver_version,power.limit,temperature.gpu,clocks.sm --format=csv ;;
    calls) timeout 60 python3 -m benchmarks.gpu.nvml_calls >"$out/nvml_calls.json" ;;
    meters) timeout 400 python3 benchmarks/gpu/check_meters.py "${SECONDS_EACH:-62}" >"$out/meters.json" ;;
    sweep)
      LIMIT=220 llm "$llama" --static-batch --batch 1,8,32,64,128,256 "${conversation[@]}" "${pace[@]}"
      LIMIT=190 llm Qwen/Qwen3-14B --static-batch --batch 1,8,32,128,256 "${conversation[@]}" "${pace[@]}"
      ;;
    qwen)
      LIMIT=220 llm Qwen/Qwen3-8B --static-batch --batch 1,8,32,64,128,256 "${conversation[@]}" "${pace[@]}"
      LIMIT=220 llm Qwen/Qwen3-14B --precision fp8 --static-batch --batch 8,32,128,256 "${conversation[@]}" "${pace[@]}"
      ;;
    long) LIMIT=120 llm "$llama" --static-batch --batch 8,32,64 "${context[@]}" "${pace[@]}" ;;
    fp8) LIMIT=120 llm "$llama" --precision fp8 --static-batch --batch 8,128,256 "${conversation[@]}" "${pace[@]}" ;;
    serve) LIMIT=110 llm Qwen/Qwen3-8B --batch 32 --input-tokens 200 --output-tokens 200 --windows 4 --warm-up 20 --duration 60 ;;
    diffusion)
      # diffusers as a wheel beside the checkout: pip install --no-deps WHEEL; its pipeline is made here.
      python3 benchmarks/gpu/make_dit.py "$out/DiT-XL-2" "${SHAPE:-xl}" || continue
      for steps in 20 50; do
        LIMIT=240 joulemap measure --diffusers "$out/DiT-XL-2" --batch 1,4,16 --steps "$steps" --windows 3 --warm-up 10 \
          --duration 45 --json >>"$out/runs.jsonl"
      done
      rm -rf "$out/DiT-XL-2"
      ;;
  esac
done
tar -C "$out" -czf "$out/store.tgz" store
rm -rf "$out/store"
