"""Read a plan file (TOML); what is wrong in it is told with line, field, what was expected, and an example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import InputError, JoulemapError
from joulemap.plan.spec import ByHour, Demand, Objective, PlanSpec, Pool, PowerCounted, Site, Slo
from joulemap.records import LengthDistribution
from joulemap.toml_file import FileKind, Location, Table
from joulemap.units import S_PER_YEAR, W_PER_KW

MOST_HOURS = 168
"""A week of hours."""

EXAMPLE = """\
[plan]
objective = "value"            # value, or at full service: energy, cost, carbon

[[sites]]
name = "north"
cap_kw = 40                    # facility power: (GPUs + servers) x PUE
pue = 1.2
pools = [{ gpu = "H100", count = 32 }]

[[demands]]
name = "chat"
task = "lm-arena-chat"
requests_per_s = 40            # or a list, one value an hour
models = ["Qwen/Qwen3-32B"]
slo = { itl_median_s = 0.05 }
"""
"""A complete plan file."""

EXAMPLES: dict[str, str] = {
    "objective": 'objective = "value"',
    "power": 'power = "mean"',
    "confidence": "confidence = 0.9",
    "headroom": "headroom = 0.1",
    "replicas": 'replicas = "hourly"',
    "name": 'name = "north"',
    "cap_kw": "cap_kw = 40",
    "pue": "pue = 1.2",
    "facility": 'facility = "industry"',
    "electricity_usd_per_kwh": "electricity_usd_per_kwh = 0.12",
    "carbon_g_per_kwh": "carbon_g_per_kwh = 350",
    "pools": 'pools = [{ gpu = "H100", count = 32 }]',
    "gpu": 'gpu = "H100"',
    "count": "count = 32",
    "price_usd": "price_usd = 30000",
    "task": 'task = "lm-arena-chat"',
    "requests_per_s": "requests_per_s = 40",
    "outputs_per_s": "outputs_per_s = 20000",
    "value": "value = 1.0",
    "priority": "priority = 1",
    "models": 'models = ["Qwen/Qwen3-32B"]',
    "slo": "slo = { itl_median_s = 0.05 }",
    "itl_median_s": "slo = { itl_median_s = 0.05 }",
    "money_usd": "money_usd = 2_000_000",
    "output_lengths": "output_lengths = { edges = [0, 256, 1024], counts = [60, 40] }",
}

PLAN_FILE = FileKind(
    name="plan file",
    page="docs/plan.md",
    example=EXAMPLE,
    examples=EXAMPLES,
    fields=[*EXAMPLES, "plan", "sites", "demands", "quality", "years", "min_quality", "precisions"],
)

MOST = 1e12
"""Beyond it a number is a slip of the pen, and sums lose their digits."""


def _no_truth_value(value: object) -> object:
    """Refuse true and false where a number is meant: they would count as 1 and 0."""
    if isinstance(value, bool):
        msg = "a number"
        raise ValueError(msg)
    return value


Number = Annotated[float, BeforeValidator(_no_truth_value)]
Positive = Annotated[Number, Field(gt=0, le=MOST, allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0, le=MOST, allow_inf_nan=False)]
Hourly = Positive | Annotated[list[Positive], Field(min_length=1, max_length=MOST_HOURS)]
HourlyOrZero = NotNegative | Annotated[list[NotNegative], Field(min_length=1, max_length=MOST_HOURS)]


class _Pool(Table):
    gpu: str
    count: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    price_usd: Positive | None = None
    server_power_w: NotNegative | None = None
    unused_power_w: NotNegative = 0.0


class _Site(Table):
    name: str = Field(min_length=1)
    cap_kw: Hourly
    pue: Annotated[float, Field(ge=1, le=10)] | None = None
    facility: str | None = None
    electricity_usd_per_kwh: HourlyOrZero | None = None
    carbon_g_per_kwh: HourlyOrZero | None = None
    pools: Annotated[list[_Pool], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_pue(self) -> _Site:
        if (self.pue is None) == (self.facility is None):
            msg = "give either pue, or the facility whose PUE the catalog has"
            raise ValueError(msg)
        return self


class _Slo(Table):
    itl_median_s: Positive | None = None
    itl_p99_s: Positive | None = None
    ttft_median_s: Positive | None = None
    latency_s: Positive | None = None


class _Lengths(Table):
    edges: Annotated[list[NotNegative], Field(min_length=2)]
    counts: Annotated[list[int], Field(min_length=1)]


class _Demand(Table):
    name: str = Field(min_length=1)
    task: str
    requests_per_s: HourlyOrZero | None = None
    outputs_per_s: HourlyOrZero | None = None
    value: Positive = 1.0
    priority: int = 1
    models: list[str] | dict[str, Positive] = Field(default_factory=list[str])
    min_quality: int | None = None
    precisions: list[str] = Field(default_factory=list)
    slo: _Slo = _Slo()
    mean_input_tokens: Positive | None = None
    mean_output_tokens: Positive | None = None
    output_lengths: _Lengths | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> _Demand:
        if (self.requests_per_s is None) == (self.outputs_per_s is None):
            msg = "give either requests_per_s or outputs_per_s"
            raise ValueError(msg)
        return self


class _Settings(Table):
    objective: Objective = "value"
    power: PowerCounted = "mean"
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    headroom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    replicas: Literal["hourly", "fixed"] = "hourly"
    money_usd: Positive | None = None
    years: Positive = 4.0


class _PlanFile(Table):
    plan: _Settings = _Settings()
    sites: Annotated[list[_Site], Field(min_length=1)]
    demands: Annotated[list[_Demand], Field(min_length=1)]
    quality: dict[str, int] = Field(default_factory=dict)


def read_plan(path: Path, *, catalog: Catalog | None = None) -> PlanSpec:
    """Read a plan file.

    Args:
        path: A TOML file in the form of :data:`EXAMPLE`.
        catalog: Facts; the shipped ones if ``None``.

    Raises:
        InputError: The file cannot be read, or something in it is wrong; names line and field.
    """
    text = PLAN_FILE.text_of(path)
    return parse_plan(text, name=str(path), catalog=catalog)


def parse_plan(text: str, *, name: str = "plan", catalog: Catalog | None = None) -> PlanSpec:
    """Read the text of a plan file; arguments and errors as :func:`read_plan`.

    >>> parse_plan(EXAMPLE).sites[0].cap_w
    (40000.0,)
    """
    file = PLAN_FILE.parse(_PlanFile, text, name)
    return _Converter(text, name, catalog or load_catalog()).spec(file)


class _Converter:
    """Turns the file's values into internal units, and looks names up."""

    def __init__(self, text: str, name: str, catalog: Catalog) -> None:
        self.text = text
        self.name = name
        self.catalog = catalog

    def spec(self, file: _PlanFile) -> PlanSpec:
        settings = file.plan
        for kind, named in (("sites", [s.name for s in file.sites]), ("demands", [d.name for d in file.demands])):
            for i, given in enumerate(named):
                if given in named[:i]:
                    raise self.wrong((kind, i, "name"), f"{given!r} is given twice", "names that differ")
        hours = self._hours(file)
        if settings.money_usd is not None:
            for i, site in enumerate(file.sites):
                for j, pool in enumerate(site.pools):
                    if pool.count is None and pool.price_usd is None:
                        where = ("sites", i, "pools", j, "price_usd")
                        raise self.wrong(where, "is missing", "the price of a GPU that is to be bought")
        return PlanSpec(
            sites=tuple(
                self._site(i, site, purchases=settings.money_usd is not None) for i, site in enumerate(file.sites)
            ),
            demands=tuple(self._demand(i, demand) for i, demand in enumerate(file.demands)),
            hours=hours,
            objective=settings.objective,
            power=settings.power,
            confidence=settings.confidence,
            headroom_fraction=settings.headroom,
            fixed_replicas=settings.replicas == "fixed",
            qualities={self._model(("quality", m), m): tier for m, tier in file.quality.items()},
            money_usd=settings.money_usd,
            lifetime_s=settings.years * S_PER_YEAR,
        )

    def _hours(self, file: _PlanFile) -> int:
        lists: list[tuple[Location, int]] = []
        for kind, tables in (("sites", file.sites), ("demands", file.demands)):
            for i, table in enumerate(tables):
                lists += [((kind, i, key), len(v)) for key, v in table if isinstance(v, list) and key in _HOURLY]
        hours = max((count for _, count in lists), default=1)
        for where, count in lists:
            if count not in (1, hours):
                raise self.wrong(where, f"has {count} values", f"one value, or {hours} (one an hour)")
        return hours

    def _site(self, i: int, site: _Site, *, purchases: bool) -> Site:
        return Site(
            name=site.name,
            cap_w=tuple(kw * W_PER_KW for kw in _by_hour(site.cap_kw)),
            pue=site.pue if site.pue is not None else self._facility_pue(i, str(site.facility)),
            pools=tuple(self._pool(i, j, pool, purchases) for j, pool in enumerate(site.pools)),
            electricity_usd_per_kwh=_by_hour(site.electricity_usd_per_kwh),
            carbon_g_per_kwh=_by_hour(site.carbon_g_per_kwh),
        )

    def _facility_pue(self, i: int, facility: str) -> float:
        found = self.catalog.facilities.get(facility)
        if found is None:
            known = ", ".join(self.catalog.facilities)
            raise self.wrong(("sites", i, "facility"), f"is {facility!r}", f"one of {known}")
        return found.pue

    def _pool(self, i: int, j: int, pool: _Pool, purchases: bool) -> Pool:
        where = ("sites", i, "pools", j)
        if pool.count is None and not purchases:
            raise self.wrong((*where, "count"), "is missing", "how many GPUs there are, or [plan] money_usd")
        try:
            gpu = self.catalog.gpu(pool.gpu).id
        except JoulemapError as error:
            raise self.wrong((*where, "gpu"), f"is {pool.gpu!r}", f"a GPU of the catalog; {error.fix}") from error
        return Pool(
            gpu_model=gpu,
            num_gpus=pool.count,
            price_usd=pool.price_usd,
            server_power_w=pool.server_power_w,
            unused_power_w=pool.unused_power_w,
        )

    def _demand(self, i: int, demand: _Demand) -> Demand:
        where = ("demands", i)
        try:
            task = self.catalog.task(demand.task).id
        except JoulemapError:
            task = demand.task  # a task of the user's own runs
        named = demand.models if isinstance(demand.models, dict) else dict.fromkeys(demand.models, 1.0)
        lengths = None
        if demand.output_lengths is not None:
            try:
                given = demand.output_lengths
                lengths = LengthDistribution(edges=tuple(given.edges), counts=tuple(given.counts))
            except ValueError as error:
                expected = "a histogram: one edge more than counts"
                raise self.wrong((*where, "output_lengths"), str(error), expected) from error
        return Demand(
            name=demand.name,
            task=task,
            requests_per_s=_by_hour(demand.requests_per_s) or None,
            outputs_per_s=_by_hour(demand.outputs_per_s) or None,
            value=demand.value,
            priority=demand.priority,
            models={self._model((*where, "models"), m): share for m, share in named.items()},
            min_quality=demand.min_quality,
            precisions=tuple(demand.precisions),
            slo=Slo(**demand.slo.model_dump()),
            mean_input_tokens=demand.mean_input_tokens,
            mean_output_tokens=demand.mean_output_tokens,
            output_lengths=lengths,
        )

    def _model(self, where: Location, name: str) -> str:
        del where
        try:
            return self.catalog.model(name).id
        except JoulemapError:
            return name  # a model of the user's own runs; the plan says so if the store lacks it too

    def wrong(self, where: Location, what: str, expected: str) -> InputError:
        return PLAN_FILE.wrong(self.name, self.text, where, what, expected)


_HOURLY = ("cap_kw", "electricity_usd_per_kwh", "carbon_g_per_kwh", "requests_per_s", "outputs_per_s")


def _by_hour(value: float | list[float] | None) -> ByHour:
    if value is None:
        return ()
    return tuple(float(v) for v in value) if isinstance(value, list) else (float(value),)
