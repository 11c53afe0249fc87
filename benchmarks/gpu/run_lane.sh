#!/usr/bin/env bash
# Runs joulemap beside real engines on real GPUs: a lane of stages for each GPU; a stage that fails stops nothing.
# Usage: benchmarks/gpu/run_lane.sh OUT GPUS STAGE…   (GPUS as CUDA counts them: 0, 1 or 0,1)
# Stages: look, calls, meters, static:MODEL:PRECISION:BATCHES, serve:MODEL:PRECISION:CONCURRENCIES and
# draw:PIPELINE:BATCHES:STEPS. Serving needs vLLM, drawing needs diffusers; weights are made up on the spot.
set -uo pipefail
out="$1" gpus="$2"
shift 2
mkdir -p "$out"
export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES="$gpus" JOULEMAP_STORE="$out/store" PYTHONUNBUFFERED=1
export PYTHONPATH="${PYTHONPATH:-}:$PWD/src" NO_COLOR=1 COLUMNS=140 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
# NVLink multicast stays off: it can take a shared host's GPUs out of service.
export VLLM_USE_FLASHINFER_SAMPLER=0 VLLM_ALLREDUCE_USE_SYMM_MEM=0 VLLM_USE_DEEP_GEMM=0 NCCL_NVLS_ENABLE=0
count="$(tr ',' '\n' <<<"$gpus" | wc -l)"
port=$((8100 + ${gpus%%,*}))
scratch="${SCRATCH:-/dev/shm}/joulemap-$port"
joulemap() { timeout "$1" python3 -m joulemap "${@:2}" --json >>"$out/runs.jsonl"; }

serve() {
  local model="$1" precision="$2" levels="$3" quantised=()
  [[ "$precision" == fp8 ]] && quantised=(--quantization fp8)
  python3 benchmarks/gpu/make_checkpoint.py "$model" "$scratch/model" || return
  setsid python3 -m vllm.entrypoints.openai.api_server --model "$scratch/model" --served-model-name "$model" --load-format dummy \
    --host 127.0.0.1 --port "$port" --tensor-parallel-size "$count" --max-model-len 8192 --max-num-seqs 512 \
    "${quantised[@]}" ${VLLM_ARGUMENTS:-} >>"$out/vllm.log" 2>&1 &
  local server=$!
  for _ in $(seq 300); do
    python3 -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:$port/health')" 2>/dev/null && break
    kill -0 "$server" 2>/dev/null || { tail -n 25 "$out/vllm.log"; return; }
    sleep 1
  done
  echo "vLLM is up at $(date -u +%T)"
  joulemap 600 measure "http://127.0.0.1:$port" --task "${TASK:-lm-arena-chat}" --concurrency "$levels" --precision "$precision" \
    --tensor-parallel "$count" --max-num-seqs 512 --windows 6 --warm-up 22 --duration "${DURATION:-55}"
  kill -TERM -- "-$server"
  sleep 3
  kill -KILL -- "-$server" 2>/dev/null
}

for stage in "$@"; do
  echo "=== $stage at $(date -u +%T)"
  IFS=: read -r name first second third <<<"$stage"
  case "$name" in
    look) nvidia-smi --query-gpu=name,driver_version,power.limit,temperature.gpu,clocks.sm --format=csv ;;
    calls) timeout 60 python3 -m benchmarks.gpu.nvml_calls >"$out/nvml_calls.json" ;;
    meters) timeout 400 python3 benchmarks/gpu/check_meters.py "${SECONDS_EACH:-62}" >"$out/meters.json" ;;
    static) joulemap 330 measure --transformers "$first" --random-weights --precision "$second" --static-batch \
      --batch "$third" --input-tokens 300 --output-tokens 620 --windows 3 --warm-up 10 --duration 32 ;;
    serve) serve "$first" "$second" "$third" ;;
    draw)
      # A folder is known to the catalog by its last name.
      case "$first" in sd3.5-medium) folder=stable-diffusion-3.5-medium ;; *) folder=FLUX.1-dev ;; esac
      python3 benchmarks/gpu/make_pipeline.py "$first" "$scratch/$folder" cuda || continue
      joulemap 300 measure --diffusers "$scratch/$folder" --batch "$second" --steps "$third" --height 1024 --width 1024 \
        --windows 3 --warm-up 8 --duration 40
      rm -rf "${scratch:?}/$folder"
      ;;
  esac
done
echo "=== done at $(date -u +%T)"
