"""Turn the catalog's TOML tables into values.

A file holds its sources as ``[sources.KEY]``; each datum's table names one as ``source = "KEY"``, and, where some
of its fields come from elsewhere, ``field_sources = { FIELD = "KEY" }``.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
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
from joulemap.catalog.types import (
    BatchDefaults,
    Engine,
    GpuModel,
    LengthStatistics,
    PrecisionFormat,
    Source,
    Task,
)

T = TypeVar("T")
Table = dict[str, Any]
Sources = Mapping[str, Source]

MIXERS: Mapping[str, type[Mixer]] = {
    "attention": Attention,
    "mla": LatentAttention,
    "mamba2": Mamba2,
    "gated_delta_net": GatedDeltaNet,
}
FEED_FORWARDS: Mapping[str, type[FeedForward]] = {"dense": DenseMlp, "moe": MoeMlp}


@functools.cache
def read_tables(file: str) -> Table:
    """Read one of the catalog's files, given without its ending."""
    return tomllib.loads(_folder().joinpath(f"{file}.toml").read_text("utf-8"))


def files(prefix: str = "") -> list[str]:
    """Name the catalog's files whose names start so, without their ending."""
    names = (f.name for f in _folder().iterdir())
    return sorted(n.removesuffix(".toml") for n in names if n.startswith(prefix) and n.endswith(".toml"))


def read_values(file: str, key: str, kind: type[T]) -> dict[str, T]:
    """Read a file's array of tables into values of one kind, by id."""
    tables = read_tables(file)
    sources = _sources(tables)
    return {t["id"]: _value(kind, t, sources) for t in tables[key]}


def read_gpus() -> dict[str, GpuModel]:
    """Read the GPUs; a figure that a table omits is ``None``."""
    return read_values("gpus", "gpus", GpuModel)


def read_tasks() -> dict[str, Task]:
    """Read the tasks with their length statistics."""
    tables = read_tables("tasks")
    sources = _sources(tables)
    found = {}
    for table in tables["tasks"]:
        lengths = {
            name: LengthStatistics(**{**table[name], "source": sources[table[name]["source"]]})
            for name in ("input_lengths", "output_lengths")
            if name in table
        }
        found[table["id"]] = _value(Task, {**table, **lengths}, sources)
    return found


def read_engines() -> dict[str, Engine]:
    """Read the engines with their defaults."""
    tables = read_tables("engines")
    sources = _sources(tables)
    return {
        t["id"]: _value(
            Engine, {**t, "batch_defaults": tuple(BatchDefaults(**d) for d in t["batch_defaults"])}, sources
        )
        if "batch_defaults" in t
        else _value(Engine, t, sources)
        for t in tables["engines"]
    }


def read_precisions() -> dict[str, PrecisionFormat]:
    """Read the number formats."""
    tables = read_tables("precisions")
    sources = _sources(tables)
    return {
        name: PrecisionFormat(**{**t, "name": name, "source": sources[t["source"]]})
        for name, t in tables["precisions"].items()
    }


def read_quantizations() -> dict[str, Quantization]:
    """Read the ways in which weights are stored."""
    tables = read_tables("quantizations")
    sources = _sources(tables)
    return {
        name: _make(Quantization, t, source=sources[t["source"]]) for name, t in tables["quantizations"].items()
    }


def read_language_models(quantizations: Mapping[str, Quantization]) -> Iterator[ModelArchitecture]:
    """Read the language and multimodal models, each with the backbone that it shares."""
    for file in files("models-"):
        tables = read_tables(file)
        sources = _sources(tables)
        for table in tables["models"]:
            yield _language_model(table, tables, sources, quantizations[table["quantization"]])


def _language_model(table: Table, tables: Table, sources: Sources, quantization: Quantization) -> ModelArchitecture:
    backbone = tables["backbones"][table["backbone"]]
    shape = {k: v for k, v in backbone.items() if k not in ("layers", "source")}
    by_field = {"": sources[backbone["source"]], "max_context_tokens": sources[table["source"]]}
    encoders: Table = {}
    for part, kind in (("vision", VisionEncoder), ("audio", AudioEncoder)):
        if part in table:
            own = tables[part][table[part]]
            encoders[part] = _make(kind, own, projector=_make(Projector, own["projector"]))
            by_field[part] = sources[own["source"]]
    if quantization.source is not None:
        by_field["quantization"] = quantization.source
    return _make(
        ModelArchitecture,
        {**shape, **table},
        layers=tuple(_layer_group(t) for t in backbone["layers"]),
        quantization=quantization,
        published=_published(table, sources),
        verified=by_field[""].read != "recalled",
        sources=by_field,
        **encoders,
    )


def _layer_group(table: Table) -> LayerGroup:
    return _make(
        LayerGroup,
        table,
        mixer=_tagged(MIXERS, table.get("mixer")),
        mlp=_tagged(FEED_FORWARDS, table.get("mlp")),
    )


def _tagged(kinds: Mapping[str, type[T]], table: Table | None) -> T | None:
    if table is None:
        return None
    return _make(kinds[table["kind"]], {k: v for k, v in table.items() if k != "kind"})


def read_diffusion_models(quantizations: Mapping[str, Quantization]) -> Iterator[DiffusionArchitecture]:
    """Read the diffusion models."""
    for file in files("diffusion-"):
        tables = read_tables(file)
        sources = _sources(tables)
        for table in tables["models"]:
            vae = tables["vaes"][table["vae"]]
            yield _make(
                DiffusionArchitecture,
                table,
                blocks=tuple(_make(DiffusionBlockGroup, t) for t in table["blocks"]),
                defaults=_make(PipelineDefaults, table["defaults"]),
                vae=_make(Vae, vae),
                text_encoders=tuple(_text_encoder(t, tables["text_encoders"]) for t in table["text_encoders"]),
                quantization=quantizations[table["quantization"]],
                published=_published(table, sources),
                verified=sources[table["source"]].read != "recalled",
                sources={
                    "": sources[table["source"]],
                    "defaults": sources["diffusers"],
                    "vae": sources[vae["source"]],
                    "text_encoders": sources["transformers"],
                },
            )


def _text_encoder(use: Table, encoders: Mapping[str, Table]) -> TextEncoder:
    encoder = encoders[use["use"]]
    return TextEncoder(name=encoder["name"], params=encoder["params"], max_tokens=use["max_tokens"])


def _published(table: Table, sources: Sources) -> PublishedParams | None:
    given = table.get("published")
    return None if given is None else PublishedParams(**{**given, "source": sources[given["source"]]})


def _sources(tables: Table) -> Sources:
    return {key: Source(**table) for key, table in tables["sources"].items()}


def _value(kind: type[T], table: Table, sources: Sources) -> T:
    by_field = {"": sources[table["source"]]}
    by_field |= {name: sources[key] for name, key in table.get("field_sources", {}).items()}
    return _make(kind, table, sources=by_field)


def _make(kind: type[T], table: Table, **made: Any) -> T:
    """Make a value from the fields that a table and the caller give; an optional one that is absent is ``None``."""
    given = {k: _frozen(v) for k, v in table.items() if k not in ("source", "field_sources")}
    return kind(**dict.fromkeys(_required_but_optional(kind)) | given | made)


def _required_but_optional(kind: Any) -> tuple[str, ...]:
    named = dataclasses.fields(kind)
    required = (f for f in named if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
    return tuple(f.name for f in required if str(f.type).endswith("| None"))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _folder() -> Any:
    return resources.files("joulemap.catalog").joinpath("data")


def iter_sources() -> Iterable[tuple[str, str, Source]]:
    """Yield every source with the file and key under which it stands."""
    for file in files():
        for key, source in _sources(read_tables(file)).items():
            yield file, key, source
