"""Make the shipped calibration from the study's runs: ``python scripts/calibrate.py STUDY_DATA_FOLDER``."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from joulemap.predict.calibration import calibrate
from joulemap.store.importers import import_path
from joulemap.store.run_store import open_store

TARGET = Path(__file__).resolve().parents[1] / "src/joulemap/predict/data/default_calibration.json"


def main(folder: Path) -> None:
    """Import the leaderboard's data in ``folder``, calibrate on it and write ``TARGET``."""
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(scratch)
        import_path(store, folder)
        frame = store.frame
    made = calibrate(frame, source="ML.ENERGY leaderboard 2026-02-16", date=datetime.now(UTC).date().isoformat())
    TARGET.parent.mkdir(exist_ok=True)
    made.save(TARGET)
    print(f"Wrote {TARGET}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
