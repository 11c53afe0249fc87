"""Values worked out by hand, and limits."""

from __future__ import annotations

import numpy as np
import pytest

from joulemap.catalog import DiffusionArchitecture, ModelArchitecture, load_catalog
from joulemap.physics import communication, compute_volume, diffusion, host, memory, power, step_time
from joulemap.physics.shape import LanguageShape, language_shape


def shape_of(name: str) -> LanguageShape:
    catalog = load_catalog()
    model = catalog.model(name)
    assert isinstance(model, ModelArchitecture)
    return language_shape(model, catalog.precisions)


def diffusion_model(name: str) -> DiffusionArchitecture:
    model = load_catalog().model(name)
    assert isinstance(model, DiffusionArchitecture)
    return model


def test_one_token_reaches_k_of_e_experts() -> None:
    assert compute_volume.expert_coverage(1.0, 128.0, 8.0) == pytest.approx(8 / 128)


def test_two_tokens_reach_two_shares_less_the_common_part() -> None:
    share = 8 / 128
    assert compute_volume.expert_coverage(2.0, 128.0, 8.0) == pytest.approx(2 * share - share**2)


def test_many_tokens_reach_all_experts_and_a_dense_model_none() -> None:
    assert compute_volume.expert_coverage(1e5, 128.0, 8.0) == pytest.approx(1.0)
    assert compute_volume.expert_coverage(64.0, 1.0, 0.0) == 0.0


def test_the_busiest_of_many_simulated_gpus() -> None:
    generator = np.random.default_rng(3)
    active = generator.random((4000, 8, 32)) < 0.4
    simulated = active.mean(axis=2).max(axis=1).mean()
    assert compute_volume.busiest_coverage(0.4, 32.0, 8.0) == pytest.approx(simulated, rel=0.03)


def test_context_of_equal_replies_is_half_the_reply_beyond_the_prompt() -> None:
    assert compute_volume.mean_context_tokens(200.0, 100.0, 0.0) == 250.0


def test_context_of_simulated_exponential_replies() -> None:
    lengths = np.random.default_rng(5).exponential(400.0, 200_000)
    # A request seen at a random moment is chosen in proportion to its length, at a uniform position.
    seen = np.sum(lengths * lengths / 2) / np.sum(lengths)
    assert compute_volume.mean_context_tokens(0.0, 400.0, 1.0) == pytest.approx(seen, rel=0.02)


def test_no_window_attends_to_all() -> None:
    assert compute_volume.attended_tokens(5000.0, 0.0) == 5000.0


def test_causal_prefill_of_three_tokens_counts_each_pair_about_once() -> None:
    # 2·3·10 for products, and 4·3·1.5·2 for scores and sums
    assert compute_volume.prefill_flops(3.0, 10.0, 2.0) == 60.0 + 36.0


def test_eight_gpus_divide_four_kv_heads_by_four() -> None:
    assert memory.kv_repetition(4.0, 8.0) == 0.25
    assert memory.kv_repetition(8.0, 2.0) == 0.5


def test_llama_8b_caches_128_kib_a_token() -> None:
    shape = shape_of("meta-llama/Llama-3.1-8B-Instruct")
    # 32 layers × 8 heads × 128 numbers × keys and values × 2 bytes
    assert memory.kv_token_bytes(shape.full_kv_heads, shape.latent_kv, 1.0, 2.0) == 131_072


def test_deepseek_caches_576_numbers_a_layer_on_every_gpu() -> None:
    shape = shape_of("deepseek-ai/DeepSeek-V3.1")
    assert memory.kv_token_bytes(shape.full_kv_heads, shape.latent_kv, 1 / 8, 2.0) == 61 * 576 * 2


def test_nothing_is_left_where_weights_fill_the_memory() -> None:
    assert memory.kv_bytes_available(80e9, 0.9, 80e9, 0.0) == 0.0
    assert memory.batch_ceiling(0.0, 1000.0, 1e5) == 0.0


def test_ten_gigabytes_hold_a_hundred_sequences_of_a_thousand_tokens() -> None:
    assert memory.batch_ceiling(1e10, 1000.0, 1e5) == pytest.approx(100.0)


def test_overlap_lies_between_maximum_and_sum() -> None:
    assert step_time.overlapped(2.0, 2.0, 1.0) == pytest.approx(4.0)
    assert step_time.overlapped(2.0, 2.0, 200.0) == pytest.approx(2.0, rel=0.01)
    assert step_time.overlapped(3.0, 0.0, 4.0) == pytest.approx(3.0)


def test_a_step_without_prompts_is_plain_and_with_many_is_mixed() -> None:
    assert step_time.mixed_step_share(0.0, 0.5) == 0.0
    assert step_time.mixed_step_share(100.0, 0.5) == pytest.approx(1.0)
    # At most a third of the steps, however many prompts: 0.3 (1 − e^(−0.9 · 0.5 / 0.3)) = 0.3 · 0.777.
    assert step_time.mixed_step_share(0.5, 0.9, 0.3) == pytest.approx(0.2331, abs=1e-4)
    assert step_time.mixed_step_share(100.0, 0.9, 0.3) == pytest.approx(0.3)
    assert step_time.median_of_mixture(0.0, 0.15) < 0.01
    assert step_time.median_of_mixture(1.0, 0.15) > 0.99


def test_half_of_the_prompts_are_longer_than_the_median_and_few_than_many_times_it() -> None:
    median = 240.0 * np.exp(-0.5 * 1.6**2)
    assert host.longer_prompt_share(240.0, 1.6, median) == pytest.approx(0.5)
    # One standard deviation above: 0.1587 of a normal distribution.
    assert host.longer_prompt_share(240.0, 1.6, median * np.exp(1.6)) == pytest.approx(0.1587, abs=0.01)
    assert host.longer_prompt_share(240.0, 1.6, 1.0) > 0.9
    assert host.longer_prompt_share(240.0, 0.2, 2400.0) < 1e-6


def test_one_gpu_does_not_communicate() -> None:
    for function in (
        communication.all_reduce_time,
        communication.all_to_all_time,
        communication.ring_exchange_time,
    ):
        assert function(1e9, 1.0, 1e9, 1e-3) == 0.0


def test_all_reduce_of_two_gpus_sends_the_message_once() -> None:
    assert communication.all_reduce_time(1e9, 2.0, 1e9, 0.0) == pytest.approx(1.0)
    assert communication.all_to_all_time(1e9, 2.0, 1e9, 0.0) == pytest.approx(0.5)
    assert communication.ring_exchange_time(1e9, 2.0, 1e9, 0.0) == pytest.approx(1.0)


def test_a_host_that_needs_longer_than_the_step_starves_the_gpu() -> None:
    assert host.starved_fraction(0.25, 1.0) == 0.75
    assert host.starved_fraction(2.0, 1.0) == 0.0


def test_power_stays_under_its_cap_and_untouched_far_below() -> None:
    assert power.capped(1e9, 700.0) == pytest.approx(700.0, rel=1e-3)
    assert power.capped(70.0, 700.0) == pytest.approx(70.0, rel=1e-5)
    assert power.capped(700.0, 700.0) == pytest.approx(700.0 / 2 ** (1 / 6))


def test_throughput_per_watt_is_the_inverse_of_energy_per_output() -> None:
    assert power.energy_per_output(700.0, 350.0) * power.throughput_per_watt(700.0, 350.0) == 1.0


def test_shapes_of_mixtures_and_hybrids() -> None:
    mixture = shape_of("Qwen/Qwen3-30B-A3B-Instruct-2507")
    assert (mixture.moe_layers, mixture.experts, mixture.experts_per_token) == (48.0, 128.0, 8.0)
    assert mixture.expert_params == 3 * 2048 * 768
    hybrid = shape_of("nvidia/NVIDIA-Nemotron-Nano-9B-v2")
    assert hybrid.attention_layers == 4.0
    assert hybrid.state_bytes > 0
    windowed = shape_of("openai/gpt-oss-120b")
    assert windowed.window_tokens == 128.0
    assert windowed.full_width == windowed.windowed_width == 18 * 64 * 64
    assert windowed.mxfp4_experts == 1.0


def test_fp8_halves_the_weights_of_a_model() -> None:
    whole = shape_of("Qwen/Qwen3-235B-A22B-Instruct-2507")
    half = shape_of("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8")
    assert half.weight_bytes / whole.weight_bytes == pytest.approx(0.5, abs=0.01)
    assert half.block_scaled == 1.0


def test_tokens_of_images_and_videos() -> None:
    image = diffusion_model("black-forest-labs/FLUX.1-dev")
    video = diffusion_model("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    assert diffusion.latent_tokens(image, 512, 1024, 1) == 32 * 64
    # 81 frames are 21 latent frames of 30 × 52 tokens
    assert diffusion.latent_tokens(video, 480, 832, 81) == 21 * 30 * 52


def test_attention_grows_with_the_square_of_the_tokens() -> None:
    model = diffusion_model("stabilityai/stable-diffusion-3.5-large")
    small = diffusion.diffusion_volume(model, 512, 512, 1)
    large = diffusion.diffusion_volume(model, 1024, 1024, 1)
    assert large.latent_tokens == 4 * small.latent_tokens
    assert large.attention_flops > 10 * small.attention_flops
    assert large.linear_flops < 4 * small.linear_flops
    assert large.samples == 2.0


def test_queries_and_keys_are_passed_over_as_often_as_the_code_treats_them() -> None:
    model = diffusion_model("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS")
    once = 28 * 4096 * (16 * 72) * 2.0
    usual = diffusion.diffusion_volume(model, 1024, 1024, 1)
    assert usual.normalised_bytes == usual.rotated_bytes == once
    none = diffusion.QueryTreatment(normalised=False, rotated=False)
    bare = diffusion.diffusion_volume(model, 1024, 1024, 1, treatment=none)
    assert bare.normalised_bytes == bare.rotated_bytes == 0.0
    across = diffusion.QueryTreatment(rotated=False, cross_normalised=True, cross_rotated=True)
    crossed = diffusion.diffusion_volume(model, 1024, 1024, 1, treatment=across)
    assert crossed.normalised_bytes == 1.5 * once
    assert crossed.rotated_bytes == 0.5 * once


def test_text_tokens_are_repeated_only_where_gpus_do_not_divide_them() -> None:
    assert diffusion.repeated_text(4096.0, 512.0, 1.0, 8.0) == 1.0
    assert diffusion.repeated_text(4096.0, 333.0, 1.0, 8.0) == pytest.approx((512 + 333) / (4429 / 8))
    assert diffusion.repeated_text(4096.0, 333.0, 0.0, 8.0) == 1.0
