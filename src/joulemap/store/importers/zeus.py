"""Measurement logs of Zeus (``ZeusMonitor(log_file=…)``): one run a window.

The log has start (Unix seconds), length and energy of each window, and nothing of the work done in it, so
that there is no energy per output; the model must be given at import.
"""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime

from joulemap.errors import ImportFileError
from joulemap.records import Annotations, Measured, Provenance, Run, Validity, Workload
from joulemap.store.importers.client_run import SHORTEST_ENERGY_WINDOW_S, deployment_of, override_notes
from joulemap.store.importers.fields import Fields
from joulemap.store.importers.power_log import LATEST_UNIX_S
from joulemap.store.importers.protocol import ImportHints, Reading
from joulemap.store.importers.source import Source

HEADER = b"start_time,window_name,elapsed_time"
_ENERGY = re.compile(r"gpu\d+_energy")
_NO_WORK = "a Zeus log does not say what work was done"


class ZeusImporter:
    """Reads every window of a log."""

    name = "zeus"
    summary = "Zeus measurement logs (CSV); needs --model"

    def recognises(self, source: Source) -> bool:
        """Return whether the file begins with the log's header."""
        return not source.is_folder and source.content.startswith(HEADER)

    def read(self, source: Source, hints: ImportHints) -> Reading:
        """Read every window; a bad line is a problem of its own."""
        reading = Reading()
        rows = csv.reader(io.StringIO(source.text))
        try:
            header = next(rows, [])
            if header[:3] != HEADER.decode().split(","):
                raise ImportFileError(source.file, "header", f"should begin with {HEADER.decode()}")
            for row in rows:
                if not row:
                    continue
                try:
                    reading.runs.append(_run(source, rows.line_num, header, row, hints))
                except ImportFileError as error:
                    reading.problems.append(error)
        except csv.Error as error:
            reading.problems.append(ImportFileError(source.file, f"line {rows.line_num}", f"is not CSV: {error}"))
        return reading


def _run(source: Source, line: int, header: list[str], row: list[str], hints: ImportHints) -> Run:
    place = f"line {line}"
    if len(row) != len(header):
        raise ImportFileError(source.file, place, f"has {len(row)} values for {len(header)} columns")
    cells = dict(zip(header, row, strict=True))
    numeric = {name: _number(text) for name, text in cells.items() if name != "window_name"}
    fields = Fields(source.file, place, {**cells, **numeric})
    energies_j = [fields.number(name) for name in header if _ENERGY.fullmatch(name)]
    energy_j, duration_s = sum(energies_j), fields.number("elapsed_time", positive=True)
    if not energy_j > 0:
        raise ImportFileError(source.file, place, "has no GPU energy above zero")
    started_s = fields.optional_number("start_time", most=LATEST_UNIX_S)
    faults: tuple[str, ...] = ()
    if duration_s < SHORTEST_ENERGY_WINDOW_S:
        faults = (f"a window of {duration_s:.2g} s is too short to measure energy",)
    return Run(
        workload=Workload(task=hints.task or fields.optional_text("window_name")),
        deployment=deployment_of(source, place, hints, num_gpus=len(energies_j)),
        measured=Measured(power_w=energy_j / duration_s, duration_s=duration_s, gpu_energy_j=energy_j),
        provenance=Provenance(
            source="Zeus",
            source_file=source.path.name,
            source_row=line - 2,
            importer=IMPORTER.name,
            measured_at=datetime.fromtimestamp(started_s, UTC) if started_s else None,
            meter="Zeus (NVML energy counters)",
            notes=override_notes(hints, num_gpus=len(energies_j)),
        ),
        validity=Validity(valid=not faults, reasons=faults),
        annotations=Annotations(
            missing=dict.fromkeys(("energy_per_output_j", "output_throughput_per_s"), _NO_WORK)
        ),
    )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


IMPORTER = ZeusImporter()
