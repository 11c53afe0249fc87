"""A user's own model, of either kind, from the config that lies beside its weights."""

from __future__ import annotations

from pathlib import Path

from joulemap.catalog.architecture import ModelArchitecture
from joulemap.catalog.config_reader import read_config
from joulemap.catalog.diffusers_config import architecture_from_diffusers
from joulemap.catalog.diffusion import DiffusionArchitecture
from joulemap.catalog.hf_config import architecture_from_hf_config


def read_user_model(path: Path) -> ModelArchitecture | DiffusionArchitecture:
    """Read a model from its ``config.json``, the folder that holds it, or a Diffusers pipeline's folder.

    Raises:
        CatalogError: The config cannot be read as a model's shape.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / "model_index.json").is_file() or (folder / "transformer").is_dir():
        return architecture_from_diffusers(path)
    if read_config(path).has("_class_name"):
        return architecture_from_diffusers(path)
    return architecture_from_hf_config(path)
