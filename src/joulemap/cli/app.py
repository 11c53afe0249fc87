"""The ``joulemap`` command: verbs are found by name and loaded only when called."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from joulemap import __version__
from joulemap.cli.ctrl_c import end_in_order, leave_with
from joulemap.errors import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    JoulemapError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from cyclopts import App

PURPOSE = "Where do the joules go? Measure, explain, predict and plan the energy of generative-AI inference."

VERBS: dict[str, tuple[str, str]] = {
    "measure": ("joulemap.cli.measure:measure", "Measure a server, a model in this process, or a small engine."),
    "record": ("joulemap.cli.record:record", "Record meters and engine metrics while your own load runs."),
    "watch": ("joulemap.cli.watch:watch", "Watch a server: joules per token now, where they go, who used them."),
    "export": ("joulemap.cli.export:export", "Export a server's energy to Prometheus and OpenTelemetry."),
    "sweep": (
        "joulemap.cli.sweep:run_sweep",
        "Measure a grid of configurations, here or on a Ray cluster, and take up where it stopped.",
    ),
    "doctor": ("joulemap.cli.doctor:show_examination", "Say what this machine can measure, and what mends it."),
    "import": ("joulemap.cli.import_:import_runs", "Bring results of other tools, or the study, into the store."),
    "runs": ("joulemap.cli.runs:list_runs", "List, filter, sort and export the runs of the store."),
    "show": ("joulemap.cli.show:show_run", "Show everything that is known of one run."),
    "publish": ("joulemap.cli.publish:publish_runs", "Write runs as a dataset that others can cite and check."),
    "compact": ("joulemap.cli.compact:compact_store", "Join a store's many small files into few."),
    "study": ("joulemap.cli.study:reproduce_study", "Reproduce the study's published claims and figures."),
    "breakdown": ("joulemap.cli.breakdown:break_down", "Compare energy by task, model, GPU, precision, batch."),
    "predict": (
        "joulemap.cli.predict:predict_configuration",
        "Predict energy, power, latency, throughput of a configuration.",
    ),
    "calibrate": ("joulemap.cli.calibrate:calibrate_on_store", "Fit the prediction on the store's runs."),
    "backtest": ("joulemap.cli.backtest:backtest_store", "Test the prediction on runs that it has not seen."),
    "diagnose": ("joulemap.cli.diagnose:diagnose_run", "Say where a run's joules went, and what to change."),
    "sensitivity": (
        "joulemap.cli.sensitivity:show_sensitivity",
        "Say how energy, latency and throughput depend on each setting and dimension.",
    ),
    "explain": ("joulemap.cli.explain:explain_pair", "Explain why one run costs more energy than another."),
    "report": ("joulemap.cli.report:report_on", "Write a report: HTML that opens offline, Markdown, JSON, charts."),
    "plan": ("joulemap.cli.plan:plan_from_file", "Plan a fleet under a power cap, from a plan file."),
    "simulate": ("joulemap.cli.simulate:simulate_from_file", "Replay requests through a planned fleet."),
    "compare-gpus": (
        "joulemap.cli.compare_gpus:compare_gpu_models",
        "Compare GPU models at matched latency, and by the fleet that a cap allows.",
    ),
    "budget": ("joulemap.cli.budget:show_budget", "Say which models fit an energy budget per response."),
    "frontier": ("joulemap.cli.frontier:show_frontier", "Show what nothing beats in time and energy at once."),
    "recommend": (
        "joulemap.cli.recommend:recommend_configuration",
        "Recommend the configuration of least energy under limits.",
    ),
    "serve": ("joulemap.cli.serve:serve", "Serve the web application: look rather than read."),
    "next": ("joulemap.cli.next_:list_next_measurements", "List the measurements most worth making next."),
}
"""Each verb with where its function lives and its line in the help."""


def build_app() -> App:
    """Return the command-line application with every verb registered and none loaded."""
    from cyclopts import App

    app = App(name="joulemap", version=__version__, help=PURPOSE, help_format="plaintext")
    for verb, (target, line) in VERBS.items():
        app.command(target, name=verb, help=line)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code; errors become one message, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal's encoding lacks is shown as "?", rather than nothing at all.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = run(arguments)
        sys.stdout.flush()
        leave_with(code)
    except SystemExit as left:
        # Rich leaves with 1 once the reader of our output has gone.
        if not isinstance(left.__context__, BrokenPipeError):
            raise
        code = EXIT_DONE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        leave_with(code)
        sys.stderr.write("interrupted\n")
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; that is its right.
        sys.stderr.close()
        code = EXIT_DONE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stderr.write("error: the output could not be written whole: no space is left\n  fix: free some space\n")
        # Nor could what Python would still write on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_ENVIRONMENT
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: The words after ``joulemap``; those of the process if ``None``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Asking for the list of verbs needs no parser, whose import takes longer than all the rest.
    if words in ([], ["--help"], ["-h"]):
        sys.stdout.write(overview())
        return EXIT_DONE
    if words == ["--version"]:
        sys.stdout.write(f"{__version__}\n")
        return EXIT_DONE
    from cyclopts import CycloptsError

    try:
        if not words[0].startswith("-") and words[0] not in VERBS:
            kind = "verb"
            raise UnknownNameError(kind, words[0], VERBS)
        verb, bound, _ = build_app().parse_args(words, exit_on_error=False, print_error=True)
        end_in_order()
        result = verb(*bound.args, **bound.kwargs)
    except JoulemapError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except CycloptsError:
        return EXIT_BAD_INPUT  # the parser has printed what is wrong
    return result if isinstance(result, int) else EXIT_DONE


def overview() -> str:
    """Return the list of verbs."""
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb:<{width}}{line}" for verb, (_, line) in VERBS.items()]
    return "\n".join(
        [
            PURPOSE,
            "",
            "usage: joulemap VERB [OPTIONS]      joulemap VERB --help      joulemap --version",
            "",
            *lines,
            "",
        ]
    )
