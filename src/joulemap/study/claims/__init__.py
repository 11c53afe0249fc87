"""The study's published claims, grouped by what they are about, in the study's order."""

from joulemap.study.claim import ClaimDefinition
from joulemap.study.claims import batch, dataset, diffusion, gpu_count, gpu_generation, modality, precision, tasks

CLAIMS: tuple[ClaimDefinition, ...] = (
    dataset.SIZE,
    *tasks.CLAIMS,
    *modality.CLAIMS,
    *diffusion.CLAIMS,
    *batch.CLAIMS,
    *gpu_generation.CLAIMS,
    *precision.CLAIMS,
    *gpu_count.CLAIMS,
    gpu_generation.EXCEPTIONS,
    dataset.THROUGHPUT_PER_WATT,
)

if len({claim.id for claim in CLAIMS}) != len(CLAIMS):
    _msg = "two claims share an id"
    raise RuntimeError(_msg)
