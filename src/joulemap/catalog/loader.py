"""Read the catalog's TOML files into frozen values, once and only what is asked for."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, TypeVar

from joulemap.catalog.architecture import (
    Attention,
    AudioEncoder,
    DenseMlp,
    FeedForward,
    GatedDeltaNet,
    LatentAttention,
    LayerGroup,
    Mamba2,
    Mixer,
    ModelArchitecture,
    MoeMlp,
    Projector,
    PublishedParams,
    Quantization,
    VisionEncoder,
)
from joulemap.catalog.diffusion import (
    DiffusionArchitecture,
    DiffusionBlockGroup,
    PipelineDefaults,
    TextEncoder,
    Vae,
)
from joulemap.catalog.types import GpuModel, PrecisionFormat, Source
from joulemap.errors import UnknownNameError

MIXERS: Mapping[str, type[Mixer]] = {
    "attention": Attention,
    "mla": LatentAttention,
    "mamba2": Mamba2,
    "gated_delta_net": GatedDeltaNet,
}
FEED_FORWARDS: Mapping[str, type[FeedForward]] = {"dense": DenseMlp, "moe": MoeMlp}

T = TypeVar("T")
AnyModel = ModelArchitecture | DiffusionArchitecture
Table = dict[str, Any]
Sources = Mapping[str, Source]


class Catalog:
    """The facts, by name. Each kind is read from its files when it is first asked for."""

    @functools.cached_property
    def gpus(self) -> Mapping[str, GpuModel]:
        """GPUs by id."""
        return {t["id"]: _gpu(t, sources) for t, sources in _entries("gpus", "gpus")}

    @functools.cached_property
    def models(self) -> Mapping[str, AnyModel]:
        """Language, multimodal and diffusion models by id."""
        found: dict[str, AnyModel] = {m.id: m for m in _language_models(self.quantizations)}
        found.update((m.id, m) for m in _diffusion_models(self.quantizations))
        return found

    @functools.cached_property
    def quantizations(self) -> Mapping[str, Quantization]:
        """Ways in which weights are stored, by name."""
        return {name: _make(Quantization, table) for name, table in _read("quantizations").items()}

    @functools.cached_property
    def precisions(self) -> Mapping[str, PrecisionFormat]:
        """Number formats by name."""
        tables = _read("precisions")
        sources = _sources(tables)
        return {
            name: PrecisionFormat(name=name, **_sourced(table, sources))
            for name, table in tables["precisions"].items()
        }

    def gpu(self, name: str) -> GpuModel:
        """Return a GPU by id, alias or driver's name, ignoring case.

        Raises:
            UnknownNameError: The catalog has no such GPU.
        """
        return _look_up("GPU model", name, self._gpu_names, self.gpus)

    def model(self, name: str) -> AnyModel:
        """Return a model by id, nickname or alias, ignoring case.

        Raises:
            UnknownNameError: The catalog has no such model.
        """
        return _look_up("model", name, self._model_names, self.models)

    @functools.cached_property
    def _gpu_names(self) -> Mapping[str, str]:
        return {_folded(n): g.id for g in self.gpus.values() for n in (g.id, g.name, *g.aliases)}

    @functools.cached_property
    def _model_names(self) -> Mapping[str, str]:
        return {
            _folded(n): m.id
            for m in self.models.values()
            for n in (m.id, m.id.rpartition("/")[2], m.nickname, *m.aliases)
        }


@functools.cache
def load_catalog() -> Catalog:
    """Return the catalog that ships with joulemap."""
    return Catalog()


def _folded(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum() or c in ".+")


def _look_up(kind: str, name: str, names: Mapping[str, str], values: Mapping[str, T]) -> T:
    found = names.get(_folded(name))
    if found is None:
        raise UnknownNameError(kind, name, values)
    return values[found]


def _language_models(quantizations: Mapping[str, Quantization]) -> Iterable[ModelArchitecture]:
    for file in _files("models-"):
        tables = _read(file)
        sources = _sources(tables)
        backbones = {name: _backbone(t) for name, t in tables["backbones"].items()}
        vision = {name: _vision(t) for name, t in tables.get("vision", {}).items()}
        audio = {name: _audio(t) for name, t in tables.get("audio", {}).items()}
        for table in tables["models"]:
            shape, key = backbones[table["backbone"]], tables["backbones"][table["backbone"]]["source"]
            own = {k: v for k, v in table.items() if k not in ("vision", "audio", "quantization", "published")}
            yield ModelArchitecture(
                **shape,
                **own,
                quantization=quantizations[table["quantization"]],
                vision=vision.get(table.get("vision", "")),
                audio=audio.get(table.get("audio", "")),
                published=_published(table, sources),
                sources={"": sources[key]},
            )


def _diffusion_models(quantizations: Mapping[str, Quantization]) -> Iterable[DiffusionArchitecture]:
    for file in _files("diffusion-"):
        tables = _read(file)
        sources = _sources(tables)
        encoders = tables["text_encoders"]
        for table in tables["models"]:
            made: Table = {
                "blocks": tuple(_make(DiffusionBlockGroup, t) for t in table["blocks"]),
                "defaults": _make(PipelineDefaults, table["defaults"]),
                "vae": _make(Vae, tables["vaes"][table["vae"]]),
                "text_encoders": tuple(
                    _make(TextEncoder, {**encoders[t["use"]], "max_tokens": t["max_tokens"]})
                    for t in table["text_encoders"]
                ),
                "quantization": quantizations[table["quantization"]],
                "published": _published(table, sources),
                "sources": {"": sources[table["source"]]},
            }
            own = {k: _frozen(v) for k, v in table.items() if k not in made and k != "source"}
            yield DiffusionArchitecture(**own, **made)


def _backbone(table: Table) -> Table:
    layers = tuple(
        LayerGroup(
            count=t["count"],
            norms=t.get("norms", 2),
            mixer=_tagged(MIXERS, t.get("mixer")),
            mlp=_tagged(FEED_FORWARDS, t.get("mlp")),
        )
        for t in table["layers"]
    )
    return {k: v for k, v in table.items() if k not in ("layers", "source")} | {"layers": layers}


def _tagged(kinds: Mapping[str, type[T]], table: Table | None) -> T | None:
    if table is None:
        return None
    return _make(kinds[table["kind"]], {k: v for k, v in table.items() if k != "kind"})


def _vision(table: Table) -> VisionEncoder:
    return _make(VisionEncoder, {**table, "projector": _make(Projector, table["projector"])})


def _audio(table: Table) -> AudioEncoder:
    return _make(AudioEncoder, {**table, "projector": _make(Projector, table["projector"])})


def _published(table: Table, sources: Sources) -> PublishedParams | None:
    given = table.get("published")
    return None if given is None else PublishedParams(**{**given, "source": sources[given["source"]]})


def _gpu(table: Table, sources: Sources) -> GpuModel:
    absent: Table = {k: None for k in OPTIONAL_GPU_FIELDS if k not in table}
    own = {k: _frozen(v) for k, v in table.items() if k not in ("source", "field_sources")}
    by_field = {"": sources[table["source"]]} | {k: sources[v] for k, v in table.get("field_sources", {}).items()}
    return GpuModel(**own, **absent, sources=by_field)


OPTIONAL_GPU_FIELDS = (
    "idle_power_w",
    "loaded_idle_power_w",
    "nvlink_bandwidth_bytes_per_s",
    "boost_clock_hz",
)


def _entries(file: str, key: str) -> Iterable[tuple[Table, Sources]]:
    tables = _read(file)
    sources = _sources(tables)
    return ((table, sources) for table in tables[key])


def _sources(tables: Table) -> Sources:
    return {key: Source(**table) for key, table in tables.get("sources", {}).items()}


def _sourced(table: Table, sources: Sources) -> Table:
    return {**table, "source": sources[table["source"]]}


def _make(kind: type[T], table: Table) -> T:
    return kind(**{k: _frozen(v) for k, v in table.items() if k != "source"})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _files(prefix: str) -> Iterable[str]:
    names = (f.name for f in resources.files("joulemap.catalog").joinpath("data").iterdir())
    return sorted(n.removesuffix(".toml") for n in names if n.startswith(prefix) and n.endswith(".toml"))


def _read(file: str) -> Table:
    text = resources.files("joulemap.catalog").joinpath("data", f"{file}.toml").read_text("utf-8")
    return tomllib.loads(text)
