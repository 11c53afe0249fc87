"""Claims about image and video generation."""

from __future__ import annotations

import polars as pl

from joulemap.study.claim import ClaimDefinition, Outcome
from joulemap.study.runs import MissingRunsError, StudyRuns, minimum_energy, stated
from joulemap.units import J_PER_KJ, J_PER_MEGAJOULE

_FEWER_PARAMETERS = "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers"
_MORE_PARAMETERS = "stabilityai/stable-diffusion-3.5-large"


def _best(runs: StudyRuns, task: str) -> pl.DataFrame:
    """Return each model's minimum-energy configuration on B200, cheapest first."""
    best = minimum_energy(runs.pick(task=task, gpu_model="B200"), ["model_id"])
    return best.sort("energy_per_output_j", maintain_order=True)


def _image_range(runs: StudyRuns) -> Outcome:
    best = _best(runs, "text-to-image")
    low, high = best.row(0, named=True), best.row(-1, named=True)
    low_j, high_j = low["energy_per_output_j"], high["energy_per_output_j"]
    return Outcome(
        computed=f"{high_j / low_j:.0f}x",
        values={"lowest_j": low_j, "highest_j": high_j, "ratio": high_j / low_j},
        note=f"{low['model']} {low_j:,.0f} J to {high['model']} {high_j:,.0f} J an image, {best.height} models",
    )


def _steps(runs: StudyRuns) -> Outcome:
    rows = stated(_best(runs, "text-to-image"), "total_params_billions", "inference_steps")
    best = {row["model_id"]: row for row in rows.iter_rows(named=True)}
    missing = [name for name in (_FEWER_PARAMETERS, _MORE_PARAMETERS) if name not in best]
    if missing:
        msg = f"there is no B200 run, with size and steps, of {' or '.join(missing)}"
        raise MissingRunsError(msg)
    small, large = best[_FEWER_PARAMETERS], best[_MORE_PARAMETERS]
    # The claim is about steps against size: it holds only if the two are as it says.
    is_case = small["total_params_billions"] < large["total_params_billions"] and (
        small["inference_steps"] > large["inference_steps"]
    )
    holds = is_case and small["energy_per_output_j"] > large["energy_per_output_j"]
    return Outcome(
        computed="yes" if holds else "no",
        values={
            "hunyuan_dit_j": small["energy_per_output_j"],
            "stable_diffusion_35_large_j": large["energy_per_output_j"],
        },
        note="; ".join(
            f"{row['model']}: {row['total_params_billions']:g}B, {row['inference_steps']} steps, "
            f"{row['energy_per_output_j']:,.0f} J"
            for row in (small, large)
        ),
    )


def _video_range(runs: StudyRuns) -> Outcome:
    best = _best(runs, "text-to-video")
    low, high = best.row(0, named=True), best.row(-1, named=True)
    low_j, high_j = low["energy_per_output_j"], high["energy_per_output_j"]
    return Outcome(
        computed=f"{low_j / J_PER_KJ:.0f} kJ – {high_j / J_PER_MEGAJOULE:.2f} MJ",
        values={"lowest_j": low_j, "highest_j": high_j},
        note=f"least {low['model']}, most {high['model']}, of {best.height} models",
    )


CLAIMS = (
    ClaimDefinition(
        id="t2i.range",
        statement="Spread of energy per image across text-to-image models, B200",
        published="20x",
        compute=_image_range,
    ),
    ClaimDefinition(
        id="t2i.steps",
        statement="Hunyuan-DiT 1.2 (1.5B, 50 steps) uses more than Stable Diffusion 3.5 Large (8.1B, 28 steps)",
        published="yes",
        compute=_steps,
    ),
    ClaimDefinition(
        id="t2v.range",
        statement="Energy per video across text-to-video models, B200",
        published="26 kJ – 1.16 MJ",
        compute=_video_range,
    ),
)
