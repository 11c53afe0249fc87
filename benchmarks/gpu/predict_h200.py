"""Writes what the shipped calibration predicts for the H200 sweep, before anything is measured there."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from joulemap.predict.calibration import default_calibration
from joulemap.predict.predict import predict_many

FOLDER = Path(__file__).parent.parent / "data" / "h200"
MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B", "Qwen/Qwen3-14B")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LENGTHS = {"conversation": (200, 600), "long-context": (8000, 1000)}


def configurations() -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "model_id": model,
                "gpu_model": "H200",
                "num_gpus": 1,
                "weight_precision": precision,
                "lengths": name,
                "mean_input_tokens": float(inputs),
                "mean_output_tokens": float(outputs),
                "batch_size": float(batch),
                "max_num_seqs": batch,
            }
            for model in MODELS
            for precision in ("bfloat16", "fp8")
            for name, (inputs, outputs) in LENGTHS.items()
            for batch in BATCHES
        ]
    )


def main() -> None:
    table = configurations()
    predicted = predict_many(table)
    predicted = table.hstack(predicted.drop([c for c in predicted.columns if c in table.columns]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / "predictions.parquet"
    predicted.write_parquet(target)
    print(f"Wrote {target}: {predicted.height} rows, calibration {default_calibration().digest[:12]}")


if __name__ == "__main__":
    main()
