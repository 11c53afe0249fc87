"""What the path of an ML.ENERGY raw result says: task, model, GPU and settings.

LLM: ``…/TASK/results/ORG/MODEL/GPU/num_gpus+1+max_num_seqs+128/``; diffusion:
``…/diffusion/GPU/…/TASK/ORG/MODEL/batch-1+size-1024x1024+steps-20+uly-1+ring-1+tc-False/``. Beside the
results a release may have ``configs/ENGINE/TASK/ORG/MODEL/model_info.json`` with the model's nickname and size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from joulemap.errors import ImportFileError
from joulemap.records import Modality
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.gpu_names import is_gpu_name, short_gpu_name
from joulemap.store.importers.source import Source

DIFFUSION_TASKS = frozenset({"text-to-image", "text-to-video"})
INPUT_MODALITIES = {"image-chat": Modality.IMAGE, "video-chat": Modality.VIDEO}
_DEEPEST_ROOT = 14
_PRECISION = re.compile(r"(?:^|[-_])(fp8|fp4|nvfp4|mxfp4|int8|int4)(?:$|[-_])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathContext:
    """What the folders above a result say; ``None`` where they do not have the expected layout."""

    task: str | None = None
    model_id: str | None = None
    gpu_model: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """The last folder's settings, for example ``{"num_gpus": "1", "max_num_seqs": "128"}``."""

    def integer(self, name: str) -> int | None:
        """Return a setting that is a whole number above zero; ``None`` if it is not."""
        text = self.settings.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0 else None


def path_context(folder: Path) -> PathContext:
    """Return what the path of a result's folder says."""
    parts = [part for part in folder.absolute().parts if part.isprintable()]
    tasks = [position for position, part in enumerate(parts) if part in DIFFUSION_TASKS]
    if tasks:
        task_at, model_at, settings = tasks[-1], tasks[-1] + 1, _dash_settings(parts[-1])
    elif "results" in parts:
        model_at = len(parts) - parts[::-1].index("results")
        task_at, settings = model_at - 2, _plus_settings(parts[-1])
    else:
        return PathContext(gpu_model=_gpu(parts), settings=_plus_settings(parts[-1]) | _dash_settings(parts[-1]))
    below = parts[model_at:]
    return PathContext(
        task=parts[task_at] if task_at >= 0 else None,
        model_id="/".join(below[:2]) if len(below) >= 3 else None,
        gpu_model=_gpu(below[2:]) or _gpu(parts[:model_at]),
        settings=settings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a release's ``model_info.json`` says of a model."""

    nickname: str | None = None
    architecture: str | None = None
    weight_precision: str | None = None
    total_params_billions: float | None = None
    activated_params_billions: float | None = None


def model_info(folder: Path, task: str | None, model_id: str) -> ModelInfo:
    """Return the release's information on a model, found in ``configs`` above the result.

    Without it only a precision that the model's own name states is known.
    """
    named = _PRECISION.search(model_id)
    fallback = ModelInfo(weight_precision=named.group(1).lower() if named else None)
    if task is None or ".." in model_id:
        return fallback
    for root in list(folder.absolute().parents)[:_DEEPEST_ROOT]:
        for path in (
            sorted(root.glob(f"configs/*/{task}/{model_id}/model_info.json")) if _plain(model_id, task) else ()
        ):
            try:
                info = Fields(str(path), "", Source(path).document)
                return ModelInfo(
                    nickname=info.optional_text("nickname"),
                    architecture=info.optional_text("architecture"),
                    weight_precision=info.optional_text("weight_precision") or fallback.weight_precision,
                    total_params_billions=info.optional_number("total_parameters_billion", positive=True),
                    activated_params_billions=info.optional_number("active_parameters_billion", positive=True),
                )
            except ImportFileError:
                # It only decorates the run: without it the run is as true.
                return fallback
    return fallback


def _plain(*names: str) -> bool:
    return all(re.fullmatch(r"[\w.+/-]+", name) for name in names)


def _gpu(parts: list[str]) -> str | None:
    return next((short_gpu_name(part) for part in reversed(parts) if is_gpu_name(part)), None)


def _plus_settings(folder: str) -> dict[str, str]:
    words = folder.split("+")
    return dict(zip(words[::2], words[1::2], strict=False))


def _dash_settings(folder: str) -> dict[str, str]:
    pairs = (word.partition("-") for word in folder.split("+"))
    return {name: value for name, hyphen, value in pairs if hyphen}
