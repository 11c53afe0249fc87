"""The levels of a session that runs a language model in this process: one a batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from joulemap.measure.in_process.language_model import LoadedModel, ModelChoice, load_language_model
from joulemap.measure.in_process.libraries import load
from joulemap.measure.in_process.metering import narrowed
from joulemap.measure.in_process.static_decode import ATTENTION, StaticDecode, StaticShape, register_attention
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.opening import MeterRequest
from joulemap.measure.session.session import Level
from joulemap.measure.session.work import Work
from joulemap.records import Deployment, Workload
from joulemap.units import PARAMS_PER_BILLION

STATIC_TASK = "static-decode"
"""Task name of runs of the static loop: it is no task of people."""
SERVED_TASK = "synthetic"


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcessPlan:
    """What to run in this process."""

    model: ModelChoice
    batches: tuple[int, ...]
    input_tokens: int
    output_tokens: int
    static: bool
    """Repeat one decoding step at a fixed batch, rather than serve requests."""
    cuda_graph: bool = True


def load_for(plan: InProcessPlan) -> LoadedModel:
    """Load the model with the attention that the plan's mode needs; errors as ``load_language_model``."""
    if not plan.static:
        return load_language_model(plan.model, attention="sdpa")
    register_attention(load("torch", extra="transformers", needed_for="--transformers"))
    return load_language_model(plan.model, attention=ATTENTION)


def levels_of(plan: InProcessPlan, loaded: LoadedModel, gpu_model: str | None) -> list[Level]:
    """Return one level a batch size."""
    return [
        Level(
            name=f"batch {batch}",
            make_work=_maker(plan, loaded, batch),
            workload=Workload(
                task=STATIC_TASK if plan.static else SERVED_TASK,
                mean_input_tokens=float(plan.input_tokens),
                mean_output_tokens=float(plan.output_tokens),
                max_concurrency=batch,
            ),
            deployment=deployment_of(loaded, gpu_model, max_num_seqs=batch),
            notes=loaded.notes,
        )
        for batch in plan.batches
    ]


def _maker(plan: InProcessPlan, loaded: LoadedModel, batch: int) -> Callable[[], Work]:
    shape = StaticShape(batch=batch, input_tokens=plan.input_tokens, output_tokens=plan.output_tokens)
    if plan.static:
        return lambda: StaticDecode(loaded, shape, cuda_graph=plan.cuda_graph)
    from joulemap.measure.in_process.continuous import ContinuousServing

    return lambda: ContinuousServing(loaded, shape)


def deployment_of(loaded: LoadedModel, gpu_model: str | None, *, max_num_seqs: int) -> Deployment:
    """Return the deployment of a model in this process."""
    import transformers

    on_gpu = loaded.device.type == "cuda"
    return Deployment(
        model_id=loaded.model_id,
        nickname=loaded.nickname,
        gpu_model=gpu_model,
        num_gpus=1 if on_gpu else None,
        weight_precision=loaded.precision,
        kv_cache_precision=str(loaded.model.dtype).removeprefix("torch."),
        total_params_billions=loaded.params / PARAMS_PER_BILLION,
        tensor_parallel=1 if on_gpu else None,
        max_num_seqs=max_num_seqs,
        torch_compile=False,
        engine="transformers",
        engine_version=str(transformers.__version__),
    )


class InProcessCampaign:
    """A language model in this process; a :class:`~joulemap.measure.session.campaign.Campaign`."""

    starts_engine = True

    def __init__(self, plan: InProcessPlan) -> None:
        self._plan = plan
        self._loaded: LoadedModel | None = None

    def meter_request(self, request: MeterRequest) -> MeterRequest:
        """Return the request for the one GPU that the model will be on, or for the CPU."""
        torch = load("torch", extra="transformers", needed_for="--transformers")
        return narrowed(torch, self._plan.model.device, request)

    def start(self, instruments: Instruments, tell: Callable[[str], None]) -> None:
        """Load the model."""
        del instruments
        tell(f"loading {self._plan.model.name} …")
        begin_s = time.monotonic()
        self._loaded = load_for(self._plan)
        billions = self._loaded.params / PARAMS_PER_BILLION
        tell(f"{self._loaded.model_id}: {billions:.3g} B parameters, {time.monotonic() - begin_s:.0f} s to load")

    def levels(self, instruments: Instruments) -> Sequence[Level]:
        """Return one level a batch size."""
        if self._loaded is None:
            return []
        return levels_of(self._plan, self._loaded, instruments.gpu_model())

    def close(self) -> None:
        """Let go of the model."""
        self._loaded = None
