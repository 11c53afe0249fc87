"""Cited facts: GPUs, model architectures, tasks, engines and servers, as frozen values.

>>> from joulemap.catalog import load_catalog
>>> load_catalog().gpu("NVIDIA H100 80GB HBM3").id
'H100'
"""

from joulemap.catalog.architecture import (
    Attention,
    AudioEncoder,
    DenseMlp,
    GatedDeltaNet,
    LatentAttention,
    LayerGroup,
    Mamba2,
    ModelArchitecture,
    MoeMlp,
    Projector,
    PublishedParams,
    Quantization,
    VisionEncoder,
    WeightPart,
)
from joulemap.catalog.diffusion import (
    DiffusionArchitecture,
    DiffusionBlockGroup,
    PipelineDefaults,
    TextEncoder,
    Vae,
)
from joulemap.catalog.loader import Catalog, load_catalog
from joulemap.catalog.types import GpuModel, Precision, PrecisionFormat, Source

__all__ = [
    "Attention",
    "AudioEncoder",
    "Catalog",
    "DenseMlp",
    "DiffusionArchitecture",
    "DiffusionBlockGroup",
    "GatedDeltaNet",
    "GpuModel",
    "LatentAttention",
    "LayerGroup",
    "Mamba2",
    "ModelArchitecture",
    "MoeMlp",
    "PipelineDefaults",
    "Precision",
    "PrecisionFormat",
    "Projector",
    "PublishedParams",
    "Quantization",
    "Source",
    "TextEncoder",
    "Vae",
    "VisionEncoder",
    "WeightPart",
    "load_catalog",
]
