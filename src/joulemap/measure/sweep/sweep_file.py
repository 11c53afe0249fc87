"""Read a sweep file (TOML); what is wrong in it is told with line, field, what was expected, and an example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from joulemap.catalog import Catalog, load_catalog
from joulemap.errors import JoulemapError
from joulemap.measure.engines.registry import EMBEDDED, engine_named, engine_names
from joulemap.measure.session.level import Pace
from joulemap.measure.sweep.grid import Grid, Rule, expand
from joulemap.measure.sweep.spec import Adaptive, Configuration, Launch, Meters, SweepSpec
from joulemap.toml_file import FileKind, Location, Table

EXAMPLE = """\
[sweep]
name = "dense-models"
models = ["Qwen/Qwen3-32B", "meta-llama/Llama-3.1-70B-Instruct"]
tasks = ["lm-arena-chat", "gpqa"]
gpus = ["H100", "B200"]
counts = [1, 2, 4]
precisions = ["bfloat16", "fp8"]
batches = [8, 16, 32, 64, 128, 256, 512]

[[exclude]]                      # every point that matches all that is stated
models = ["meta-llama/Llama-3.1-70B-Instruct"]
counts = [1]
precisions = ["bfloat16"]

[[override]]                     # what differs for some models
models = ["meta-llama/Llama-3.1-70B-Instruct"]
served = { fp8 = "nvidia/Llama-3.1-70B-Instruct-FP8" }

[launch]
engine = "vllm"                  # vllm, sglang, command, embedded
how = "container"                # or process
image = "vllm/vllm-openai:v0.11.1"

[limits]
time_limit_s = 3600
retries = 1

[adaptive]                       # leave it out to measure the whole grid
regret = 0.013
"""
"""A complete sweep file."""

EXAMPLES: dict[str, str] = {
    "name": 'name = "dense-models"',
    "models": 'models = ["Qwen/Qwen3-32B"]',
    "tasks": 'tasks = ["lm-arena-chat"]',
    "gpus": 'gpus = ["H100", "B200"]',
    "counts": "counts = [1, 2, 4]",
    "precisions": 'precisions = ["bfloat16", "fp8"]',
    "batches": "batches = [8, 16, 32]",
    "served": 'served = { fp8 = "Qwen/Qwen3-32B-FP8" }',
    "engine": 'engine = "vllm"',
    "how": 'how = "container"',
    "image": 'image = "vllm/vllm-openai:v0.11.1"',
    "runtime": 'runtime = "podman"',
    "command": 'command = ["my-server", "--port", "{port}", "--model", "{model}"]',
    "arguments": 'arguments = ["--max-num-batched-tokens", "8192"]',
    "environment": 'environment = { VLLM_LOGGING_LEVEL = "WARNING" }',
    "pass_environment": 'pass_environment = ["HF_TOKEN"]',
    "mounts": 'mounts = ["/models:/models:ro"]',
    "max_model_len": "max_model_len = 40960",
    "expert_parallel": "expert_parallel = true",
    "ready_within_s": "ready_within_s = 1800",
    "time_limit_s": "time_limit_s = 3600",
    "retries": "retries = 1",
    "wait_for_nodes_s": "wait_for_nodes_s = 300",
    "window_s": "window_s = 5",
    "windows": "windows = 12",
    "duration_s": "duration_s = 300",
    "warm_up_s": "warm_up_s = 60",
    "confidence_width": "confidence_width = 0.02",
    "input_tokens": "input_tokens = 512",
    "output_tokens": "output_tokens = 512",
    "meters": 'meters = ["nvidia"]',
    "tdp_w": "tdp_w = 350",
    "dcgm": 'dcgm = "http://127.0.0.1:9400/metrics"',
    "regret": "regret = 0.013",
    "budget": "budget = 0.35",
    "saturation": "saturation = 0.02",
}

SWEEP_FILE = FileKind(
    name="sweep file",
    page="docs/sweep.md",
    example=EXAMPLE,
    examples=EXAMPLES,
    fields=[*EXAMPLES, "sweep", "exclude", "override", "launch", "measure", "limits", "adaptive"],
)

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=1024)]
Counts = Annotated[list[Count], Field(min_length=1)]
Batches = Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Variables = dict[Name, str]


class _Sweep(Table):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    models: Names
    tasks: Names
    batches: Batches
    gpus: list[Name] = Field(default_factory=list)
    counts: Counts = Field(default_factory=lambda: [1])
    precisions: Names | None = None


class _Rule(Table):
    models: list[Name] = Field(default_factory=list)
    tasks: list[Name] = Field(default_factory=list)
    gpus: list[Name] = Field(default_factory=list)
    counts: list[Count] = Field(default_factory=list)
    precisions: list[Name] = Field(default_factory=list)
    batches: list[int] = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> _Rule:
        if not any(value for _, value in self):
            msg = "give at least one of models, tasks, gpus, counts, precisions, batches"
            raise ValueError(msg)
        return self


class _Override(Table):
    models: Names
    tasks: Names | None = None
    gpus: Names | None = None
    counts: Counts | None = None
    precisions: Names | None = None
    batches: Batches | None = None
    served: dict[Name, Name] = Field(default_factory=dict)
    arguments: list[str] = Field(default_factory=list)
    environment: Variables = Field(default_factory=dict)
    expert_parallel: bool | None = None


class _Launch(Table):
    engine: Name
    how: Literal["process", "container"] = "process"
    command: list[str] = Field(default_factory=list)
    image: Name | None = None
    runtime: Literal["docker", "podman"] = "docker"
    arguments: list[str] = Field(default_factory=list)
    environment: Variables = Field(default_factory=dict)
    pass_environment: list[Name] = Field(default_factory=list)
    mounts: list[Annotated[str, Field(pattern=r"^[^:]+:[^:]+(:(ro|rw))?$")]] = Field(default_factory=list)
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    expert_parallel: bool = False
    ready_within_s: Positive = 1800.0


class _Measure(Table):
    window_s: Positive | None = None
    windows: Annotated[int, Field(ge=1)] | None = None
    duration_s: Positive | None = None
    warm_up_s: Positive | None = None
    confidence_width: Annotated[float, Field(gt=0, lt=1)] | None = None
    input_tokens: Annotated[int, Field(ge=1)] | None = None
    output_tokens: Annotated[int, Field(ge=1)] | None = None
    meters: list[Name] = Field(default_factory=list)
    tdp_w: Positive | None = None
    dcgm: Name | None = None


class _Limits(Table):
    time_limit_s: Positive = 3600.0
    retries: Annotated[int, Field(ge=0, le=20)] = 1
    wait_for_nodes_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0


class _Adaptive(Table):
    regret: Annotated[float, Field(gt=0, lt=1)] = 0.013
    budget: Share = 1.0
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0.02


class _SweepFile(Table):
    sweep: _Sweep
    launch: _Launch
    exclude: list[_Rule] = Field(default_factory=list)
    override: list[_Override] = Field(default_factory=list)
    measure: _Measure = Field(default_factory=_Measure)
    limits: _Limits = Field(default_factory=_Limits)
    adaptive: _Adaptive | None = None


def read_sweep(path: Path, *, catalog: Catalog | None = None) -> SweepSpec:
    """Read a sweep file.

    Args:
        path: A TOML file in the form of :data:`EXAMPLE`.
        catalog: Facts; the shipped ones if ``None``.

    Raises:
        InputError: The file cannot be read, or something in it is wrong; names line and field.
    """
    return parse_sweep(SWEEP_FILE.text_of(path), name=str(path), catalog=catalog)


def parse_sweep(text: str, *, name: str = "sweep", catalog: Catalog | None = None) -> SweepSpec:
    """Read the text of a sweep file; arguments and errors as :func:`read_sweep`.

    >>> len(parse_sweep(EXAMPLE).configurations)
    308
    """
    file = SWEEP_FILE.parse(_SweepFile, text, name)
    return _Converter(text, name, catalog or load_catalog()).spec(file)


class _Converter:
    """Looks names up, and turns the file's values into a sweep."""

    def __init__(self, text: str, name: str, catalog: Catalog) -> None:
        self.text = text
        self.name = name
        self.catalog = catalog

    def spec(self, file: _SweepFile) -> SweepSpec:
        self._check_launch(file)
        grid, rules = self._grid(file), self._rules(file)
        try:
            made, excluded = expand(grid, rules, self._overrides(file), self._make(file))
        except ValueError as error:
            raise self._wrong(("sweep",), "gives no configuration", str(error)) from error
        measure = file.measure
        return SweepSpec(
            name=file.sweep.name,
            configurations=made,
            excluded=excluded,
            launch=Launch(
                engine=file.launch.engine,
                how=file.launch.how,
                command=tuple(file.launch.command),
                image=file.launch.image,
                runtime=file.launch.runtime,
                mounts=tuple(file.launch.mounts),
                pass_environment=tuple(file.launch.pass_environment),
                max_model_len=file.launch.max_model_len,
                ready_within_s=file.launch.ready_within_s,
            ),
            pace=self._pace(file),
            window_stated=measure.window_s is not None,
            meters=Meters(names=tuple(measure.meters), tdp_w=measure.tdp_w, dcgm_url=measure.dcgm),
            time_limit_s=file.limits.time_limit_s,
            retries=file.limits.retries,
            wait_for_nodes_s=file.limits.wait_for_nodes_s,
            adaptive=self._adaptive(file.adaptive),
        )

    def _adaptive(self, told: _Adaptive | None) -> Adaptive | None:
        if told is None:
            return None
        return Adaptive(
            regret_fraction=told.regret, budget_fraction=told.budget, saturation_fraction=told.saturation
        )

    def _check_launch(self, file: _SweepFile) -> None:
        launch = file.launch
        if launch.engine not in engine_names():
            known = ", ".join(engine_names())
            raise self._wrong(("launch", "engine"), f"is {launch.engine!r}", f"one of {known}")
        if (launch.engine == "command") != bool(launch.command):
            where = ("launch", "command") if launch.command else ("launch", "engine")
            expected = 'a command exactly where engine = "command"'
            raise self._wrong(where, "and the other do not fit together", expected)
        if launch.engine == EMBEDDED:
            if launch.how == "container":
                raise self._wrong(("launch", "how"), "is 'container'", "'process' for the embedded engine")
            return
        if launch.how == "container" and not (launch.image or engine_named(launch.engine).image):
            raise self._wrong(("launch", "image"), "is missing", "the image to run")
        if not file.sweep.gpus:
            raise self._wrong(("sweep", "gpus"), "is missing", "the GPU models to measure on")

    def _grid(self, file: _SweepFile) -> Grid:
        asked, where = file.sweep, ("sweep",)
        return Grid(
            models=tuple(map(self._model, asked.models)),
            tasks=tuple(map(self._task, asked.tasks)),
            gpus=tuple(self._gpus(where, asked.gpus)) or (None,),
            counts=tuple(asked.counts),
            precisions=tuple(asked.precisions or (None,)),
            batches=tuple(asked.batches),
        )

    def _rules(self, file: _SweepFile) -> list[Rule]:
        return [
            Rule(
                models=tuple(map(self._model, rule.models)),
                tasks=tuple(map(self._task, rule.tasks)),
                gpus=tuple(self._gpus(("exclude", i), rule.gpus)),
                counts=tuple(rule.counts),
                precisions=tuple(rule.precisions),
                batches=tuple(rule.batches),
            )
            for i, rule in enumerate(file.exclude)
        ]

    def _overrides(self, file: _SweepFile) -> dict[str, dict[str, tuple[object, ...]]]:
        """Return what differs from the grid, by model."""
        found: dict[str, dict[str, tuple[object, ...]]] = {}
        swept = set(map(self._model, file.sweep.models))
        for i, override in enumerate(file.override):
            gpus = None if override.gpus is None else self._gpus(("override", i), override.gpus)
            tasks = None if override.tasks is None else [self._task(task) for task in override.tasks]
            axes = {
                "tasks": tasks,
                "gpus": gpus,
                "counts": override.counts,
                "precisions": override.precisions,
                "batches": override.batches,
            }
            for model in map(self._model, override.models):
                if model not in swept:
                    where = ("override", i, "models")
                    raise self._wrong(where, f"names {model!r}", "models of [sweep]")
                found.setdefault(model, {}).update({n: tuple(v) for n, v in axes.items() if v is not None})
        return found

    def _make(self, file: _SweepFile) -> _Maker:
        own: dict[str, list[_Override]] = {self._model(model): [] for model in file.sweep.models}
        for override in file.override:
            for model in override.models:
                own[self._model(model)].append(override)
        return _Maker(file, own)

    def _pace(self, file: _SweepFile) -> Pace:
        told, base = file.measure, Pace()
        window_s = told.window_s or base.window_s
        duration_s = told.duration_s or base.max_duration_s
        warm_up_s = told.warm_up_s or base.max_warm_up_s
        if duration_s <= window_s:
            raise self._wrong(
                ("measure", "duration_s"), f"is {duration_s:g}", f"more than a window of {window_s:g} s"
            )
        windows = told.windows or base.max_windows
        return Pace(
            window_s=window_s,
            min_windows=min(base.min_windows, windows),
            max_windows=windows,
            confidence_width_fraction=told.confidence_width or base.confidence_width_fraction,
            max_duration_s=duration_s,
            min_warm_up_s=min(base.min_warm_up_s, warm_up_s),
            max_warm_up_s=warm_up_s,
        )

    def _gpus(self, where: Location, names: list[str]) -> list[str]:
        found = []
        for name in names:
            try:
                found.append(self.catalog.gpu(name).id)
            except JoulemapError as error:
                expected = f"GPUs of the catalog; {error.fix}"
                raise self._wrong((*where, "gpus"), f"names {name!r}", expected) from error
        return found

    def _model(self, name: str) -> str:
        try:
            return self.catalog.model(name).id
        except JoulemapError:
            return name  # a model of the user's own

    def _task(self, name: str) -> str:
        try:
            return self.catalog.task(name).id
        except JoulemapError:
            return name  # a task of the user's own

    def _wrong(self, where: Location, what: str, expected: str) -> JoulemapError:
        return SWEEP_FILE.wrong(self.name, self.text, where, what, expected)


class _Maker:
    """Makes a configuration of a point of the grid, with what the file states for its model."""

    def __init__(self, file: _SweepFile, overrides: dict[str, list[_Override]]) -> None:
        self._file = file
        self._overrides = overrides

    def __call__(
        self, model: str, task: str, gpu: str | None, count: int, precision: str | None, batch: int
    ) -> Configuration:
        launch, own = self._file.launch, self._overrides[model]
        served = {key: name for override in own for key, name in override.served.items()}
        parallel = [o.expert_parallel for o in own if o.expert_parallel is not None]
        image = None
        if launch.how == "container":
            image = launch.image or engine_named(launch.engine, launch.command).image
        return Configuration(
            model=model,
            served=served.get(precision or "", served.get("any", model)),
            task=task,
            gpu=gpu,
            count=count,
            precision=precision,
            batch=batch,
            engine=launch.engine,
            image=image,
            arguments=(*launch.arguments, *(word for o in own for word in o.arguments)),
            environment={**launch.environment, **{k: v for o in own for k, v in o.environment.items()}},
            expert_parallel=parallel[-1] if parallel else launch.expert_parallel,
            input_tokens=self._file.measure.input_tokens,
            output_tokens=self._file.measure.output_tokens,
        )
