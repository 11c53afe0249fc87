"""Draw the study's backbones anew, fit, and see whether ledgers stay inside the intervals that they quote.

``python scripts/bootstrap_shares.py STUDY_DATA_FOLDER [REPLICATES]`` prints, for each part of the ledger, how much
its share of the energy moves over calibrations on resampled backbones, and how many of those shares lie inside the
90 % interval that the shipped calibration quotes. A backbone is drawn whole, with all its variants, tasks and GPU
models, since its runs err alike.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from joulemap.catalog import load_catalog
from joulemap.diagnose.diagnose import diagnose_frame
from joulemap.diagnose.diagnosis import Diagnosis, Part
from joulemap.diagnose.series import Curves
from joulemap.predict.calibration import Calibration, default_calibration, fit_form, usable_runs
from joulemap.predict.few_shot import kinship
from joulemap.predict.forms import form_rows, layout, measured_logs
from joulemap.store.importers import import_path
from joulemap.store.run_store import open_store

SAMPLED_RUNS = 300
LEAST_SHARE = 0.01
"""Parts below this share of a run's energy are left out: a ratio to almost nothing says nothing."""


def resampled(calibration: Calibration, frame: pl.DataFrame, rng: np.random.Generator) -> Calibration:
    """Return the calibration with each form fitted on as many backbones, drawn with replacement."""
    facts = load_catalog()
    forms = {}
    for form, own in calibration.forms.items():
        runs = usable_runs(frame, form, facts, facts.models)
        (kin,) = kinship([runs], {i: facts.models[i].backbone for i in set(runs["model_id"])})
        rows = form_rows(form, runs, facts, facts.models, layout(form, own.gpus))
        drawn = rng.choice(np.unique(kin.backbone), size=np.unique(kin.backbone).size)
        places = [np.flatnonzero(kin.backbone == code) for code in drawn]
        # A backbone that is drawn twice counts as two.
        codes = np.repeat(np.arange(len(places)), [p.size for p in places])
        taken = np.concatenate(places)
        measured = measured_logs(form, runs)[:, taken]
        found = fit_form(rows.take(taken), measured, codes, start=own.vector, limit=15, tolerance=1e-3)
        forms[form] = replace(own, vector=found.vector)
    return replace(calibration, forms=forms)


def shares(diagnosis: Diagnosis) -> dict[Part, tuple[float, float, float]]:
    """Return share, low and high of each part of a ledger, over the total."""
    total = diagnosis.total_j_per_output
    return {p.part: (p.joules_per_output / total, p.low / total, p.high / total) for p in diagnosis.ledger}


def main(folder: Path, replicates: int) -> None:
    """Print the table of docs/diagnose.md."""
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(scratch)
        import_path(store, folder)
        frame = store.frame
    rng = np.random.default_rng(0)
    curves = Curves(frame)
    sample = frame.filter(pl.col("energy_per_output_j") > 0).sample(SAMPLED_RUNS, seed=0)
    shipped = default_calibration()
    quoted = [shares(d) for d in diagnose_frame(sample, curves=curves, calibration=shipped)]
    moved: dict[Part, list[float]] = defaultdict(list)
    inside: dict[Part, list[bool]] = defaultdict(list)
    for number in range(replicates):
        drawn = diagnose_frame(sample, curves=curves, calibration=resampled(shipped, frame, rng))
        for told, again in zip(quoted, map(shares, drawn), strict=True):
            for part, (share, low, high) in told.items():
                if share >= LEAST_SHARE and part in again:
                    moved[part].append(again[part][0] - share)
                    inside[part].append(low <= again[part][0] <= high)
        print(f"{number + 1} of {replicates}", file=sys.stderr)
    print("| part | median share | moves by (90 % of draws) | inside the quoted interval |\n|---|---|---|---|")
    for part in Part:
        if part in moved:
            typical = np.median([t[part][0] for t in quoted if part in t and t[part][0] >= LEAST_SHARE])
            low, high = np.quantile(moved[part], [0.05, 0.95])
            print(f"| `{part.value}` | {typical:.0%} | {low:+.0%} to {high:+.0%} | {np.mean(inside[part]):.0%} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
