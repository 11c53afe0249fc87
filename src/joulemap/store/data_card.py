"""What a dataset says to people: its card, its citation file, its licence."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date

import polars as pl

from joulemap.errors import UsageError
from joulemap.records import Basis, Measured
from joulemap.records.run import unit_of
from joulemap.store.mlenergy_tables import COLUMNS_KEPT
from joulemap.store.schema import COLUMNS, MEASURED_COLUMNS

_SHOWN = 40
"""Rows of a table of the card; what follows is counted together."""
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDescription:
    """What only the publisher knows of a dataset.

    Raises:
        UsageError: There is no title or author, or the licence is no SPDX identifier.
    """

    title: str
    authors: tuple[str, ...]
    """``"Family, Given"``, or the name of a body."""
    licence: str
    """The SPDX identifier, for example ``"CC-BY-4.0"``."""
    version: str = "1.0.0"
    released: date
    url: str | None = None
    doi: str | None = None
    about: str | None = None
    """What a reader should know, in Markdown's plain text."""

    def __post_init__(self) -> None:
        if not self.title.strip() or not self.authors or not all(author.strip() for author in self.authors):
            msg = "a dataset that can be cited has a title and an author"
            raise UsageError(msg, fix="--title 'Energy of …' --author 'Family, Given'")
        if not _SPDX.fullmatch(self.licence):
            msg = f"{self.licence!r} is no SPDX identifier of a licence"
            raise UsageError(msg, fix="for example --license CC-BY-4.0")


def data_card(runs: pl.LazyFrame, description: DatasetDescription, not_in_mlenergy: Mapping[str, int]) -> str:
    """Return the dataset's README: what it holds, where it comes from, how far it may be believed.

    Args:
        runs: The dataset's runs.
        description: What the publisher says.
        not_in_mlenergy: Runs that the ML.ENERGY layout has no place for, by reason.
    """
    total = runs.select(pl.len()).collect().item()
    sections = [
        _front_matter(description, total),
        f"# {_plain(description.title)}\n",
        _plain(description.about) + "\n" if description.about else "",
        f"{total:,} configurations of generative-AI inference, their energy, power and speed: a row each.\n",
        "## What was measured\n",
        _counts(runs, "task", "Task"),
        _counts(runs, "model_id", "Model"),
        _counts(runs, "gpu_model", "GPU model"),
        _counts(runs, "engine", "Engine"),
        "## Where it comes from\n",
        _provenance(runs),
        "## How far it may be believed\n",
        _basis(runs, total),
        _validity(runs),
        "## What is missing\n",
        _missing(runs, total),
        "## Columns\n",
        _columns(runs),
        "## Use it\n",
        _use(not_in_mlenergy, runs),
        "## Licence and citation\n",
        _licence(description),
    ]
    return "\n".join(section for section in sections if section)


def citation_file(description: DatasetDescription) -> str:
    """Return the dataset's ``CITATION.cff``, version 1.2.0 of that format."""
    lines = [
        "cff-version: 1.2.0",
        "type: dataset",
        'message: "If you use this dataset, please cite it as below."',
        f"title: {_yaml(description.title)}",
        "authors:",
    ]
    for author in description.authors:
        family, comma, given = (part.strip() for part in author.partition(","))
        if comma:
            lines += [f"  - family-names: {_yaml(family)}", f"    given-names: {_yaml(given)}"]
        else:
            lines.append(f"  - name: {_yaml(author)}")
    lines += [
        f"version: {_yaml(description.version)}",
        f"date-released: {description.released.isoformat()}",
        f"license: {description.licence}",
    ]
    lines += [f"{name}: {_yaml(value)}" for name in ("doi", "url") if (value := getattr(description, name))]
    return "\n".join(lines) + "\n"


def licence_note(description: DatasetDescription) -> str:
    """Return the text of the dataset's ``LICENSE``."""
    return (
        f"{description.title}\n"
        f"Copyright {description.released.year} {'; '.join(description.authors)}\n\n"
        f"SPDX-License-Identifier: {description.licence}\n"
        f"Text of the licence: https://spdx.org/licenses/{description.licence}.html\n\n"
        "Runs that were taken from other publishers' data remain under the terms of their publishers; README.md\n"
        "names every source.\n"
    )


def _front_matter(description: DatasetDescription, total: int) -> str:
    """Return what dataset hosts read of a card."""
    size = next(
        (f"{low}<n<{high}" for low, high, most in _SIZES if total < most),
        "n>1M",
    )
    return "\n".join(
        [
            "---",
            f"pretty_name: {_yaml(description.title)}",
            f"license: {description.licence.lower()}",
            "tags: [energy, inference, power, benchmark]",
            f"size_categories: [{_yaml(size)}]",
            "configs:",
            "  - config_name: runs",
            "    data_files: data/*.parquet",
            "---\n",
        ]
    )


_SIZES = (("n", "1K", 1_000), ("1K", "10K", 10_000), ("10K", "100K", 100_000), ("100K", "1M", 1_000_000))


def _counts(runs: pl.LazyFrame, column: str, heading: str) -> str:
    found = _counted(runs, column)
    rows = [(_plain(value) if value is not None else "not stated", f"{count:,}") for value, count in found[:_SHOWN]]
    if rest := len(found) - _SHOWN:
        rows += [(f"{rest:,} more", f"{sum(count for _, count in found[_SHOWN:]):,}")] if rest > 0 else []
    return _table((heading, "runs"), rows)


def _counted(runs: pl.LazyFrame, column: str) -> list[tuple[str | None, int]]:
    counts = runs.group_by(column).agg(pl.len()).sort(["len", column], descending=[True, False])
    return [(None if value is None else str(value), count) for value, count in counts.collect().iter_rows()]


def _provenance(runs: pl.LazyFrame) -> str:
    sources = (
        runs.group_by("source", "importer", "meter")
        .agg(pl.len(), pl.col("measured_at").min().alias("first"), pl.col("measured_at").max().alias("last"))
        .sort("len", "source", descending=[True, False])
        .collect()
    )
    rows = [
        (
            _plain(row["source"]),
            _plain(row["importer"] or "measured by joulemap"),
            _plain(row["meter"] or "not stated"),
            "not stated" if row["first"] is None else f"{row['first']:%Y-%m-%d} – {row['last']:%Y-%m-%d}",
            f"{row['len']:,}",
        )
        for row in sources.iter_rows(named=True)
    ]
    return _table(("source", "read by", "meter", "measured", "runs"), rows)


def _basis(runs: pl.LazyFrame, total: int) -> str:
    told = pl.col("annotations").str.json_path_match("$.basis.energy_per_output_j")
    basis = (
        pl.when(pl.col("energy_per_output_j").is_null())
        .then(pl.lit("no energy"))
        .otherwise(told.fill_null(Basis.MEASURED.value))
    )
    counts = dict(_counted(runs.select(basis.alias("basis")), "basis"))
    known = runs.select(
        pl.col("annotations").str.json_path_match("$.intervals.energy_per_output_j").is_not_null().sum()
    )
    lines = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return (
        f"Energy per output rests on: {lines}. For {known.collect().item():,} of {total:,} runs its 90 % interval "
        "is known. `annotations` holds, as JSON, the basis of each quantity that is not measured, the intervals, "
        "and the reasons for what is missing.\n"
    )


def _validity(runs: pl.LazyFrame) -> str:
    invalid = runs.filter(~pl.col("valid")).select(pl.len()).collect().item()
    if not invalid:
        return "Every run is valid.\n"
    reasons = runs.filter(~pl.col("valid")).select("validity_reasons").explode("validity_reasons")
    # Reasons hold numbers, which differ from run to run.
    kinds = _counted(
        reasons.select(pl.col("validity_reasons").str.replace_all(r"[+-]?\d[\d,.]*", "N")), "validity_reasons"
    )
    rows = [(_plain(reason or "not stated"), f"{count:,}") for reason, count in kinds[:_SHOWN]]
    return f"{invalid:,} runs are invalid (`valid` is false) and are there for the record:\n\n" + _table(
        ("why", "runs"), rows
    )


def _missing(runs: pl.LazyFrame, total: int) -> str:
    told: Counter[tuple[str, str]] = Counter()
    # Many runs lack the same things for the same reasons.
    for text, count in _counted(runs.select(pl.col("annotations").str.json_path_match("$.missing")), "annotations"):
        for name, reason in json.loads(text or "{}").items():
            told[name, reason] += count
    rows = [
        (f"`{name}`" if name in COLUMNS else _plain(name), _plain(reason), f"{count:,}")
        for (name, reason), count in told.most_common(_SHOWN)
    ]
    text = _table(("column", "why", "runs without it"), rows) if rows else ""
    counts = runs.select(pl.col(list(MEASURED_COLUMNS)).null_count()).collect().row(0, named=True)
    if never := [name for name, missing in counts.items() if missing == total]:
        text += "\nMeasured of no run: " + ", ".join(f"`{name}`" for name in never) + ".\n"
    return text or "Nothing that one would expect.\n"


def _columns(runs: pl.LazyFrame) -> str:
    present = runs.select(pl.all().count()).collect().row(0, named=True)
    measured = {f.name for f in fields(Measured)}
    rows = [
        (f"`{name}`", str(kind), unit_of(name) if name in measured else "–")
        for name, kind in COLUMNS.items()
        if present.get(name)
    ]
    return (
        "Numbers are in the unit that ends their names; `output` is the run's `output_unit`. Power and GPU energy "
        "are those of all GPUs together. Columns without any value are left out here.\n\n"
        + _table(("column", "type", "unit"), rows)
    )


def _use(not_in_mlenergy: Mapping[str, int], runs: pl.LazyFrame) -> str:
    lost = [
        name
        for name, count in runs.select(pl.col(list(MEASURED_COLUMNS)).count()).collect().row(0, named=True).items()
        if count and name not in COLUMNS_KEPT
    ]
    text = (
        "```sh\nsha256sum -c SHA256SUMS\njoulemap study .      # which of the study's claims it can test\n"
        "joulemap import .     # the same runs, under the same ids, into your own store\n```\n\n"
        "`data/*.parquet` is read by anything that reads Parquet. `mlenergy/runs/` holds the runs in the form of "
        "the ML.ENERGY Benchmark's compiled tables, for tools made for those; there, the latency of a diffusion "
        "batch is its mean where that is known, else its median."
    )
    if lost:
        text += " They have no place for " + ", ".join(f"`{name}`" for name in lost) + ", intervals and notes."
    if not_in_mlenergy:
        reasons = "; ".join(f"{count:,}: {_plain(reason)}" for reason, count in not_in_mlenergy.items())
        text += f" Runs without a place there: {reasons}."
    return text + "\n"


def _licence(description: DatasetDescription) -> str:
    authors = "; ".join(map(_plain, description.authors))
    where = f"https://doi.org/{description.doi}" if description.doi else description.url
    title, version = _plain(description.title), _plain(description.version)
    cited = f"{authors} ({description.released.year}). {title}, version {version}."
    return (
        f"{description.licence}, see `LICENSE`; runs taken from other publishers' data remain under their terms. "
        f"Cite it (`CITATION.cff`) as:\n\n> {cited}{f' {_plain(where)}' if where else ''}\n"
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _plain(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, on one line."""
    one_line = " ".join(text.split())
    escaped = html.escape(one_line, quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|" else c for c in escaped)


def _yaml(text: str) -> str:
    # JSON's strings are YAML's.
    return json.dumps(text, ensure_ascii=False)
