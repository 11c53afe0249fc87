"""``joulemap measure``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulemap.cli.measure_options import (
    InProcessOptions,
    LoadOptions,
    MeasureRequest,
    MeterOptionsGroup,
    PaceOptions,
    ServerOptions,
    meter_request,
    pace_of,
    whole_numbers,
)
from joulemap.cli.measure_view import View
from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.errors import EXIT_DONE, EXIT_INTERRUPTED, JoulemapError, UsageError
from joulemap.measure.session.campaign import Campaign, Orders, conduct
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.interrupts import ended_like_ctrl_c
from joulemap.measure.session.journal import Journal, read_journal
from joulemap.measure.session.published import Published, state_file
from joulemap.measure.session.recovery import recover
from joulemap.measure.session.session import SessionResult
from joulemap.records import Run
from joulemap.report.payloads.run_record import run_json
from joulemap.store.run_store import RunStore

if TYPE_CHECKING:
    from joulemap.measure.in_process.diffusion import DiffusionPlan
    from joulemap.measure.in_process.levels import InProcessPlan


def measure(
    url: str | None = None,
    /,
    *,
    load: LoadOptions | None = None,
    server: ServerOptions | None = None,
    in_process: InProcessOptions | None = None,
    pace: PaceOptions | None = None,
    meters: MeterOptionsGroup | None = None,
    resume: str | None = None,
    common: Common | None = None,
) -> int:
    """Measure energy, power and speed of a server, of a model in this process, or of the embedded engine.

    Args:
        url: Address of an OpenAI-compatible server; without one, and without --transformers or --diffusers, a small
            engine is started here.
        load: What is asked of the model.
        server: The server, as far as it cannot be asked.
        in_process: Models without a server.
        pace: How long to measure.
        meters: What measures.
        resume: Go on with a session that was interrupted, by its id.
        common: Store and output.
    """
    output = common or Common()
    request = MeasureRequest(
        url=url,
        load=load or LoadOptions(),
        server=server or ServerOptions(),
        in_process=in_process or InProcessOptions(),
        pace=pace or PaceOptions(),
        meters=meters or MeterOptionsGroup(),
    )
    store = output.open()
    folder = store.sessions_folder
    recovered: list[Run] = []
    skip: set[str] = set()
    if resume is not None:
        journaled = read_journal(folder, resume)
        request = MeasureRequest.from_json(journaled.options)
        recovered, skip = recover(store, journaled)
    campaign = campaign_of(request)
    journal = Journal(folder, resume)
    try:
        if resume is None:
            journal.begin(request.to_json())
        note(f"session {journal.session_id}")
        for run in recovered:
            note(f"recovered run {run.run_id} from windows that were complete")
        orders = Orders(
            store=store,
            pace=pace_of(request.pace, quick=is_embedded(request)),
            meters=meter_request(request.meters),
            journal=journal,
            window_stated=request.pace.window is not None,
            skip=skip,
        )
        with View() as view, ended_like_ctrl_c():

            def watching(instruments: Instruments) -> Published:
                return Published(view.watching(instruments), instruments, state_file(folder, journal.session_id))

            result = conduct(campaign, orders, watching, view.tell)
    except KeyboardInterrupt:
        # Before the first level, or after the last one.
        note(f"interrupted; go on with: joulemap measure --resume {journal.session_id}")
        return EXIT_INTERRUPTED
    finally:
        journal.close()
        state_file(folder, journal.session_id).unlink(missing_ok=True)
    return report([*recovered, *result.runs], result, store, json=output.json)


def is_embedded(request: MeasureRequest) -> bool:
    """Whether no server and no model was named."""
    chosen = (request.url, request.in_process.transformers, request.in_process.diffusers)
    return all(c is None for c in chosen)


def campaign_of(request: MeasureRequest) -> Campaign:
    """Return what a request asks to measure.

    Raises:
        UsageError: More than one thing is asked at once.
    """
    chosen = [c for c in (request.url, request.in_process.transformers, request.in_process.diffusers) if c]
    if len(chosen) > 1:
        msg = f"one thing is measured at a time, not {' and '.join(chosen)}"
        raise UsageError(msg, fix="give a URL, --transformers or --diffusers")
    if request.in_process.transformers is not None:
        from joulemap.measure.in_process.levels import InProcessCampaign

        return InProcessCampaign(in_process_plan(request))
    if request.in_process.diffusers is not None:
        from joulemap.measure.in_process.diffusion import DiffusionCampaign

        return DiffusionCampaign(diffusion_plan(request))
    from joulemap.cli.measure_server import embedded_campaign, server_campaign

    return embedded_campaign(request) if request.url is None else server_campaign(request)


def in_process_plan(request: MeasureRequest) -> InProcessPlan:
    """Return what to run in this process."""
    from joulemap.measure.in_process.language_model import ModelChoice
    from joulemap.measure.in_process.levels import InProcessPlan

    options, load = request.in_process, request.load
    return InProcessPlan(
        model=ModelChoice(
            name=options.transformers or "",
            random_weights=options.random_weights,
            precision=request.server.precision or "bfloat16",
            device=options.device,
            layers=options.layers,
        ),
        batches=whole_numbers(options.batch, "--batch"),
        input_tokens=load.input_tokens or 512,
        output_tokens=load.output_tokens or 512,
        static=options.static_batch,
        cuda_graph=options.cuda_graph,
    )


def diffusion_plan(request: MeasureRequest) -> DiffusionPlan:
    """Return what to draw in this process."""
    from joulemap.measure.in_process.diffusion import DiffusionPlan

    options = request.in_process
    return DiffusionPlan(
        name=options.diffusers or "",
        batches=whole_numbers(options.batch, "--batch"),
        steps=options.steps,
        height_px=options.height,
        width_px=options.width,
        frames=options.frames,
        device=options.device,
        precision=request.server.precision or "bfloat16",
    )


def report(runs: list[Run], result: SessionResult, store: RunStore, *, json: bool) -> int:
    """Show what was measured and where it is; return the exit code.

    Raises:
        MeasurementError: The session ended early; what it brought has been shown.
    """
    if json:
        print_json(
            {
                "session": result.session_id,
                "runs": [run_json(run) for run in runs],
                "without_run": result.without_run,
                "interrupted": result.interrupted,
            }
        )
    elif runs:
        print_runs(runs)
    for run in runs:
        note(f"Wrote {store.timelines.address_of(run.run_id)}   joulemap show {run.run_id}")
    for level, why in result.without_run.items():
        note(f"{level}: no run: {why}")
    if not json and not result.interrupted and result.error is None:
        show_diagnosis(runs, store)
    if result.interrupted:
        note(f"interrupted; go on with: joulemap measure --resume {result.session_id}")
        return EXIT_INTERRUPTED
    if result.error is not None:
        note(f"what was complete is kept; go on with: joulemap measure --resume {result.session_id}")
        raise result.error
    return EXIT_DONE


def show_diagnosis(runs: list[Run], store: RunStore) -> None:
    """Print where the joules of the last run that may be believed went; say so if that cannot be told."""
    usable = [run for run in runs if run.measured.energy_per_output_j]
    run = next((r for r in reversed(usable) if r.validity.valid), usable[-1] if usable else None)
    if run is None:
        return
    from joulemap.cli.diagnose import print_diagnosis
    from joulemap.diagnose.diagnose import diagnose

    try:
        diagnosis = diagnose(run.run_id, store=store)
    except JoulemapError as error:
        note(f"no diagnosis of {run.run_id}: {error.message}")
        return
    print_diagnosis(diagnosis)


def print_runs(runs: list[Run]) -> None:
    """Print the table of runs."""
    rows = []
    for run in runs:
        told = run.quantity("energy_per_output_j")
        spread = "" if told is None or told.low is None else f"[{figure(told.low)}–{figure(told.high)}]"
        workload = run.workload
        load = workload.max_concurrency if workload.max_concurrency is not None else workload.request_rate_per_s
        rows.append(
            [
                run.run_id,
                figure(load),
                figure(run.measured.batch_size),
                figure(None if told is None else told.value),
                spread,
                figure(run.measured.power_w),
                figure(run.measured.output_throughput_per_s),
                figure(run.measured.itl_median_s),
                str(told.basis) if told is not None else "–",
                "valid" if run.validity.valid else "INVALID",
            ]
        )
    unit = runs[0].workload.output_unit
    print_table(
        "",
        ["run", "load", "batch", f"J/{unit}", "90 % interval", "W", f"{unit}/s", "ITL s", "energy is", "verdict"],
        rows,
    )
    for run in runs:
        for reason in run.validity.reasons:
            note(f"{run.run_id}: {reason}")
