"""``joulemap record``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from joulemap.cli.measure_options import MeterOptionsGroup, meter_request
from joulemap.cli.output import figure, note
from joulemap.errors import EXIT_DONE, EXIT_INTERRUPTED, UsageError
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.interrupts import ended_like_ctrl_c
from joulemap.measure.session.opening import instruments
from joulemap.measure.session.recorder import Recording
from joulemap.measure.telemetry.recorder import TelemetryRecorder, TelemetrySource

FLUSH_S = 1.0
LINE_EVERY_S = 10.0


def record(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    duration: float | None = None,
    metrics_url: str | None = None,
    api_key_env: str = "JOULEMAP_API_KEY",
    meters: MeterOptionsGroup | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Record power, GPU activity and an engine's metrics while your own load runs.

    Args:
        output: Folder to write.
        duration: Time in seconds; until Ctrl-C if not given.
        metrics_url: Where the engine tells its metrics, for example http://127.0.0.1:8000/metrics.
        api_key_env: Environment variable that holds the server's API key.
        meters: What measures.
        force: Write into a folder that holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not force:
        msg = f"{output} exists and is not an empty folder"
        raise UsageError(msg, fix="give another folder, or --force")
    if duration is not None and not duration > 0:
        msg = f"--duration {duration:g} records nothing"
        raise UsageError(msg, fix="give a positive number of seconds")
    key = os.environ.get(api_key_env, "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    source = None if metrics_url is None else TelemetrySource(metrics_url, headers=headers)
    with instruments(meter_request(meters or MeterOptionsGroup())) as (watching, explanation):
        for line in explanation:
            note(f"meter {line}")
        engine = None if source is None else TelemetryRecorder(source)
        if engine is not None:
            watching.watch_engine(engine)
        with Recording(output, watching) as recording:
            with ended_like_ctrl_c():
                interrupted = _wait(recording, watching, engine, duration)
            watching.stop()
            recording.finish()
    for file in recording.written:
        note(f"Wrote {file}")
    if (output / "power.csv").exists():
        note(f"pair it with a result: joulemap import RESULT --power {output / 'power.csv'}")
    error = watching.meter_error()
    if error is not None:
        raise error
    # Ctrl-C is how a recording without a stated duration ends.
    return EXIT_INTERRUPTED if interrupted and duration is not None else EXIT_DONE


def _wait(
    recording: Recording, watching: Instruments, engine: TelemetryRecorder | None, duration_s: float | None
) -> bool:
    """Record until the time is over, a meter stops, or Ctrl-C; return whether it was Ctrl-C."""
    begin_s = told_s = time.monotonic()
    note("recording" + ("; Ctrl-C ends it" if duration_s is None else f" for {duration_s:g} s"))
    try:
        while watching.meter_error() is None:
            now_s = time.monotonic()
            left_s = FLUSH_S if duration_s is None else begin_s + duration_s - now_s
            if left_s <= 0:
                return False
            time.sleep(min(FLUSH_S, left_s))
            recording.flush()
            if engine is not None and (sample := engine.latest()) is not None:
                # Once, and at once: who records for an hour wants to know in the first seconds.
                why = next(iter(sample.missing.values()), "")
                note(f"telemetry {sample.engine}" if sample.engine else f"telemetry: nothing yet, {why}")
                engine = None
            if now_s - told_s >= LINE_EVERY_S:
                told_s = now_s
                note(f"{now_s - begin_s:.0f} s · {figure(watching.latest_power_w())} W ({watching.basis})")
    except KeyboardInterrupt:
        return True
    return False
