"""``joulemap backtest``."""

from __future__ import annotations

from collections.abc import Sequence

from joulemap.cli.output import Common, figure, note, print_json, print_table
from joulemap.predict.backtest import Protocol, Score, backtest
from joulemap.store.selector import filtered, parse_selector


def backtest_store(
    selector: str = "",
    /,
    *,
    protocol: Protocol = "backbone",
    common: Common | None = None,
) -> None:
    """Predict runs of the store that the fit has not seen, and say how far off it was, beside simpler methods.

    Args:
        selector: Which runs, for example gpu=H100; all if not given.
        protocol: What is held out: a backbone with all its variants, one model, a GPU model, or a backbone of
            which three runs a series are given.
        common: Store and output.
    """
    options = common or Common()
    frame = filtered(options.open().non_empty_frame(), parse_selector(selector))
    note("fitting once for each group held out: one to two minutes for the study's runs")
    result = backtest(frame, protocol)
    if options.json:
        print_json(result.to_json())
        return
    columns = ["split", "quantity", "runs", "median error %", "p90 error %", "inside 90 % interval"]
    print_table(f"Protocol {protocol}", columns, _rows(result.splits), left=2)
    for name, scores in result.baselines:
        energy = [s for s in scores if s.quantity == "energy_per_output_j" and "," not in s.split]
        print_table(f"The same runs by: {name}", columns, _rows(energy), left=2)
    for text in result.notes:
        note(f"note: {text}")


def _rows(scores: Sequence[Score]) -> list[list[str]]:
    return [
        [
            s.split,
            s.quantity,
            str(s.n),
            figure(s.mdape),
            figure(s.p90ape),
            "–" if s.coverage90 is None else f"{s.coverage90:.0f} %",
        ]
        for s in scores
    ]
