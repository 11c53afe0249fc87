"""Writes what the shipped calibration predicts for the H100 runs, before anything is measured there."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from joulemap.predict.calibration import default_calibration
from joulemap.predict.predict import predict_many

FOLDER = Path(__file__).parent.parent / "data" / "h100"
MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B")
PRECISIONS = ("bfloat16", "fp8")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MAX_NUM_SEQS = 512
PICTURES = (("stabilityai/stable-diffusion-3.5-medium", 28), ("black-forest-labs/FLUX.1-dev", 28))
PICTURE_BATCHES = (1, 2, 4, 8, 16)


def served() -> pl.DataFrame:
    """Return text conversation as the study serves it."""
    return pl.DataFrame(
        [
            {
                "task": "lm-arena-chat",
                "model_id": model,
                "gpu_model": "H100",
                "num_gpus": gpus,
                "tensor_parallel": gpus,
                "weight_precision": precision,
                "mean_input_tokens": 300.0,
                "mean_output_tokens": 620.7,
                "batch_size": float(batch),
                "max_num_seqs": MAX_NUM_SEQS,
            }
            for model in MODELS
            for gpus in (1, 2)
            for precision in PRECISIONS
            for batch in BATCHES
        ]
    )


def static() -> pl.DataFrame:
    """Return one decoding step, again and again: nothing is sampled."""
    one = served().filter(pl.col("num_gpus") == 1)
    return one.with_columns(
        task=pl.lit("static-decode"), mean_output_tokens=pl.lit(620.0), max_num_seqs=pl.col("batch_size").cast(int)
    )


def pictures() -> pl.DataFrame:
    """Return images of 1,024 pixels a side."""
    return pl.DataFrame(
        [
            {
                "task": "text-to-image",
                "output_unit": "image",
                "model_id": model,
                "gpu_model": "H100",
                "num_gpus": 1,
                "weight_precision": "bfloat16",
                "inference_steps": steps,
                "height_px": 1024,
                "width_px": 1024,
                "batch_size": float(batch),
            }
            for model, steps in PICTURES
            for batch in PICTURE_BATCHES
        ]
    )


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, table in (("served", served()), ("static", static()), ("pictures", pictures())):
        predicted = predict_many(table)
        predicted = table.hstack(predicted.drop([c for c in predicted.columns if c in table.columns]))
        target = FOLDER / f"predicted-{name}.parquet"
        predicted.write_parquet(target)
        print(f"Wrote {target}: {predicted.height} rows, calibration {default_calibration().digest[:12]}")


if __name__ == "__main__":
    main()
