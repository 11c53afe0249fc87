"""A tiny diffusion pipeline in this process; needs diffusers, which the light environment lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from joulemap.clock import SystemClock
from joulemap.errors import InputError
from joulemap.measure.in_process.diffusion import DiffusionCampaign, DiffusionPlan, load_pipeline
from joulemap.measure.meters.assumed import AssumedMeter
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.journal import Journal
from joulemap.measure.session.level import Pace
from joulemap.measure.session.recording import Baselines
from joulemap.measure.session.session import Session
from joulemap.records import OutputUnit
from joulemap.store.run_store import open_store
from tests.measure.session.scripted import Silent

PACE = Pace(window_s=0.3, max_windows=3, min_warm_up_s=0.1, max_warm_up_s=3.0, max_duration_s=30.0)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional pipeline with random weights: no tokenizer, no text encoder, nothing to download."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra diffusers)")
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra diffusers)")
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
    )
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 16), latent_channels=4, norm_num_groups=8, sample_size=16, **blocks
    )
    folder = tmp_path_factory.mktemp("pipeline")
    diffusers.DiTPipeline(transformer, vae, diffusers.DDIMScheduler()).save_pretrained(folder)
    return folder


def plan(folder: Path, **changes: Any) -> DiffusionPlan:
    return DiffusionPlan(
        **{"name": str(folder), "batches": (1, 2), "steps": 3, "device": "cpu", "precision": "float32", **changes}
    )


def test_batches_of_pictures_are_measured_whole(pipeline: Path, tmp_path: Path) -> None:
    campaign = DiffusionCampaign(plan(pipeline))
    store = open_store(tmp_path / "store")
    journal = Journal(tmp_path / "sessions")
    with Instruments([AssumedMeter(100.0)]) as instruments:
        campaign.start(instruments, lambda _line: None)
        session = Session(store, instruments, PACE, Silent(), journal, clock=SystemClock())
        result = session.measure(campaign.levels(instruments), Baselines())
    journal.close()
    assert result.error is None, result.error
    for run, batch in zip(result.runs, (1, 2), strict=True):
        assert run.workload.output_unit is OutputUnit.IMAGE
        assert run.workload.inference_steps == 3
        assert run.measured.batch_size == batch
        throughput, latency_s = run.measured.output_throughput_per_s, run.measured.latency_mean_s
        assert throughput is not None
        assert latency_s is not None
        assert throughput * latency_s == pytest.approx(batch, rel=0.02)
        assert run.measured.completed_requests
        assert run.measured.completed_requests % batch == 0


def test_a_folder_without_a_pipeline_is_named(pipeline: Path, tmp_path: Path) -> None:
    assert pipeline.exists()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_pipeline(plan(tmp_path))
