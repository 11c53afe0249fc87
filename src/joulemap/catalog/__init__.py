"""Cited facts: GPUs, model architectures, tasks, engines, servers and data centres, as frozen values.

A model that is not among them is read from its own config: ``load_catalog().model_from("path/to/model")``.

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
from joulemap.catalog.types import (
    BatchDefaults,
    Engine,
    Facility,
    GpuModel,
    LengthStatistics,
    Precision,
    PrecisionFormat,
    Server,
    Source,
    Task,
)

__all__ = [
    "Attention",
    "AudioEncoder",
    "BatchDefaults",
    "Catalog",
    "DenseMlp",
    "DiffusionArchitecture",
    "DiffusionBlockGroup",
    "Engine",
    "Facility",
    "GatedDeltaNet",
    "GpuModel",
    "LatentAttention",
    "LayerGroup",
    "LengthStatistics",
    "Mamba2",
    "ModelArchitecture",
    "MoeMlp",
    "PipelineDefaults",
    "Precision",
    "PrecisionFormat",
    "Projector",
    "PublishedParams",
    "Quantization",
    "Server",
    "Source",
    "Task",
    "TextEncoder",
    "Vae",
    "VisionEncoder",
    "WeightPart",
    "load_catalog",
]
