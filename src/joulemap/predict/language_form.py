"""The coefficients of the language-model form: what each means and what was assumed of it before calibration.

Priors come from datasheets and published kernel measurements, never from the rows that a back-test holds out.
``FORM_VERSION`` changes whenever the form or a prior does.
"""

from __future__ import annotations

from joulemap.predict.coefficients import Coefficient, by_gpu, shared

FORM_VERSION = 3

TASK_INPUT_TOKENS = {
    "gpqa": ("input_tokens_gpqa", 220.0, 0.10),
    "lm-arena-chat": ("input_tokens_chat", 220.0, 0.06),
    "sourcegraph-fim": ("input_tokens_fim", 1150.0, 0.06),
    "image-chat": ("input_tokens_image", 650.0, 0.15),
    "video-chat": ("input_tokens_video", 3600.0, 0.20),
}
"""Per task: coefficient, prior mean prompt length (read off KV-cache capacity where the batch was full), spread."""
TASK_CONTEXT = {
    "gpqa": "context_gpqa",
    "lm-arena-chat": "context_chat",
    "image-chat": "context_chat",
    "video-chat": "context_chat",
}
"""Per task: coefficient that relates the study's contexts to those of a steady state; other tasks are in one."""

LANGUAGE: tuple[Coefficient, ...] = (
    by_gpu("bandwidth", 0.90, 0.01, "share of memory bandwidth that dense weights are read at", 0.015),
    by_gpu("expert_bandwidth", 0.75, 0.10, "the same of expert weights", 0.09),
    by_gpu("kv_bandwidth", 0.82, 0.04, "the same of the KV cache", 0.04),
    by_gpu("latent_bandwidth", 0.40, 0.50, "the same of a latent KV cache"),
    by_gpu("arithmetic", 0.68, 0.05, "share of the 16-bit peak that decode's matrix products reach", 0.06),
    by_gpu("arithmetic_fp8", 0.55, 0.30, "share of the FP8 peak that matrix products reach"),
    shared("fp8_dense", 0.80, 0.10, "FP8 peak share of dense products relative to 16-bit ones"),
    by_gpu("arithmetic_prefill", 0.62, 0.06, "share of peak that prompts are read at", 0.06),
    by_gpu("prefill_experts", 0.50, 0.30, "prompts' products with experts relative to dense ones"),
    shared("matrix_overlap", 2.5, 0.50, "sharpness of the overlap of weight traffic and arithmetic"),
    shared("expert_imbalance", 0.20, 0.60, "more prompt tokens on the busiest GPU, for each doubling of GPUs"),
    by_gpu("launch_attention", 35e-6, 0.40, "s of launch and latency per attention layer", 0.11),
    shared("launch_latent", 1.8, 0.15, "latent attention's launches relative to plain attention's"),
    by_gpu("launch_dense", 35e-6, 0.40, "s per dense or shared feed-forward part", 0.11),
    by_gpu("launch_experts", 45e-6, 0.60, "s per 16-bit mixture of experts"),
    by_gpu("launch_experts_fp8", 60e-6, 0.60, "s per FP8 mixture of experts"),
    by_gpu("launch_experts_fp4", 30e-6, 0.60, "s per 4-bit mixture of experts"),
    by_gpu("launch_recurrent", 60e-6, 0.60, "s per state-space layer"),
    by_gpu("launch_quantise", 10e-6, 1.00, "s per layer to quantise activations"),
    by_gpu("launch_step", 8e-4, 0.60, "s per step outside layers"),
    by_gpu("all_reduce", 8e-6, 0.60, "s of latency of an all-reduce"),
    by_gpu("link_bandwidth", 0.50, 0.50, "share of the link bandwidth that collectives reach"),
    by_gpu("sample_element", 1.5e-10, 0.40, "s per sequence and vocabulary entry"),
    by_gpu("sample_sequence", 2e-5, 0.40, "s per sequence"),
    by_gpu("eager_dense", 2.5e-4, 0.60, "s of host time per layer without CUDA graphs"),
    by_gpu("eager_experts", 4e-4, 0.60, "the same, more for a mixture of experts"),
    by_gpu("eager_recurrent", 5e-4, 0.60, "the same of a state-space layer"),
    shared("eager_parallel", 0.10, 0.50, "growth of that with each doubling of GPUs"),
    shared("tile_rows_blocked", 128.0, 0.15, "empty rows per local expert in block-scaled FP8 products"),
    by_gpu("tile_rows", 16.0, 0.80, "empty rows per touched expert in other products"),
    shared("prompt_spreading", 0.90, 0.15, "steps that prompts reach, of those that as many alone would"),
    shared("prompt_share", 0.50, 0.20, "share of steps with a prompt that even many prompts do not exceed"),
    shared("median_width", 0.15, 0.30, "width of the median's change from plain to mixed steps"),
    *(shared(name, m, s, f"tokens of a prompt of {task}") for task, (name, m, s) in TASK_INPUT_TOKENS.items()),
    shared("context_gpqa", 0.80, 0.20, "reply's share of the mean context relative to a steady state, gpqa"),
    shared("context_chat", 0.90, 0.10, "the same of lm-arena-chat and of image and video chat"),
    shared("narrow_host_long", 28e-3, 0.50, "s per step, long replies on a host with few cores"),
    shared("narrow_host_pixels", 28e-3, 0.50, "s per step, images or video on such a host"),
    shared("narrow_host_sequence", 6e-5, 1.00, "s per sequence on such a host"),
    by_gpu("preprocess_image", 0.01, 1.00, "s of host time per request with images"),
    by_gpu("preprocess_video", 0.05, 1.00, "s of host time per request with video"),
    by_gpu("vision", 1.0, 0.70, "vision encoder's operations relative to the plain count"),
    shared("state_traffic", 1.0, 0.70, "traffic of recurrent state relative to one read and one write"),
    shared("replica_prefill", 1.0, 0.30, "a prompt's work with attention replicas, per replica"),
    shared("routing_evenness", 1.0, 0.30, "exponent of the batch in expert coverage"),
    # Anchor: an H100 with a model loaded and no request draws about 120 W of 700 (the catalog has the source).
    by_gpu("power_static", 0.17, 0.10, "share of TDP drawn without work", 0.10),
    by_gpu("power_weights", 0.30, 0.50, "share of TDP that weight traffic draws at full bandwidth"),
    by_gpu("power_kv", 0.30, 0.60, "the same of KV-cache traffic"),
    by_gpu("power_arithmetic", 0.95, 0.25, "share of TDP that arithmetic draws at peak"),
    shared("power_fp8", 0.70, 0.20, "an FP8 operation's energy relative to a 16-bit one's"),
    shared("power_padding", 0.50, 0.25, "an empty row's energy relative to a full one's"),
    by_gpu("power_active", 0.10, 0.60, "share of TDP drawn while kernels run, whatever they do"),
    by_gpu("power_launch", 0.08, 0.60, "the same during launches"),
    by_gpu("power_communication", 0.08, 0.80, "the same during collectives"),
)  # fmt: skip
