"""The catalog: facts by name, each kind read from its files when it is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from joulemap.catalog import tables
from joulemap.catalog.architecture import ModelArchitecture, Quantization
from joulemap.catalog.diffusion import DiffusionArchitecture
from joulemap.catalog.types import Engine, Facility, GpuModel, PrecisionFormat, Server, Task
from joulemap.errors import UnknownNameError

T = TypeVar("T")
AnyModel = ModelArchitecture | DiffusionArchitecture


class Catalog:
    """GPUs, models, tasks, engines, servers and facilities, by id and by other names.

    Names are looked up ignoring case, blanks and punctuation, so that ``"Qwen3-32B"``, ``"qwen 3 32b"`` and
    ``"Qwen/Qwen3-32B"`` are one model.
    """

    @functools.cached_property
    def gpus(self) -> Mapping[str, GpuModel]:
        """GPUs by id."""
        return tables.read_gpus()

    @functools.cached_property
    def models(self) -> Mapping[str, AnyModel]:
        """Language, multimodal and diffusion models by id."""
        found: dict[str, AnyModel] = {m.id: m for m in tables.read_language_models(self.quantizations)}
        found.update((m.id, m) for m in tables.read_diffusion_models(self.quantizations))
        return found

    @functools.cached_property
    def quantizations(self) -> Mapping[str, Quantization]:
        """Ways in which weights are stored, by name."""
        return tables.read_quantizations()

    @functools.cached_property
    def precisions(self) -> Mapping[str, PrecisionFormat]:
        """Number formats by name."""
        return tables.read_precisions()

    @functools.cached_property
    def tasks(self) -> Mapping[str, Task]:
        """Tasks by id."""
        return tables.read_tasks()

    @functools.cached_property
    def engines(self) -> Mapping[str, Engine]:
        """Serving engines by id."""
        return tables.read_engines()

    @functools.cached_property
    def servers(self) -> Mapping[str, Server]:
        """GPU servers by id."""
        return tables.read_values("servers", "servers", Server)

    @functools.cached_property
    def facilities(self) -> Mapping[str, Facility]:
        """Data centres by id."""
        return tables.read_values("servers", "facilities", Facility)

    def gpu(self, name: str) -> GpuModel:
        """Return a GPU by id, alias or the name that its driver reports.

        Raises:
            UnknownNameError: The catalog has no such GPU.
        """
        return _look_up("GPU model", name, self._gpu_names, self.gpus)

    def model(self, name: str) -> AnyModel:
        """Return a model by id, id without publisher, nickname or alias.

        Raises:
            UnknownNameError: The catalog has no such model.
        """
        return _look_up("model", name, self._model_names, self.models)

    def model_from(self, name_or_path: str | Path) -> AnyModel:
        """Return a model by name or, where that is a file or folder, from the config in it.

        A folder with a ``transformer`` in it, or a config of Diffusers, is a diffusion model.

        Raises:
            UnknownNameError: The catalog has no such model, and there is no such file.
            CatalogError: The config cannot be read as a model's shape.
        """
        # Imported here, for a known name needs no reader of configs.
        from joulemap.catalog.user_model import read_user_model

        path = Path(name_or_path)
        if not _exists(path):
            return self.model(str(name_or_path))
        return read_user_model(path)

    def task(self, name: str) -> Task:
        """Return a task by id, the study's name or alias.

        Raises:
            UnknownNameError: The catalog has no such task.
        """
        return _look_up("task", name, self._task_names, self.tasks)

    def engine(self, name: str) -> Engine:
        """Return a serving engine by id, name or alias.

        Raises:
            UnknownNameError: The catalog has no such engine.
        """
        return _look_up("engine", name, self._engine_names, self.engines)

    @functools.cached_property
    def _gpu_names(self) -> Mapping[str, str]:
        return _index((g.id, (g.id, g.name, *g.aliases)) for g in self.gpus.values())

    @functools.cached_property
    def _model_names(self) -> Mapping[str, str]:
        return _index((m.id, (m.id, m.id.rpartition("/")[2], m.nickname, *m.aliases)) for m in self.models.values())

    @functools.cached_property
    def _task_names(self) -> Mapping[str, str]:
        return _index((t.id, (t.id, t.display_name, *t.aliases)) for t in self.tasks.values())

    @functools.cached_property
    def _engine_names(self) -> Mapping[str, str]:
        return _index((e.id, (e.id, e.name, *e.aliases)) for e in self.engines.values())


@functools.cache
def load_catalog() -> Catalog:
    """Return the catalog that ships with joulemap."""
    return Catalog()


def _index(names: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    return {_folded(name): key for key, others in names for name in others}


def _folded(name: str) -> str:
    # Σ folds to σ, and only letters, digits, dots and pluses tell names apart.
    return "".join(c for c in name.casefold() if c.isalnum() or c in ".+")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _look_up(kind: str, name: str, names: Mapping[str, str], values: Mapping[str, T]) -> T:
    found = names.get(_folded(name))
    if found is None:
        raise UnknownNameError(kind, name, values)
    return values[found]
