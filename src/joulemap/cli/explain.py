"""``joulemap explain A B``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.padding import Padding
from rich.text import Text

from joulemap.cli.output import Common, console, figure, note, print_json
from joulemap.diagnose.explain import explain
from joulemap.diagnose.explanation import Explanation


def explain_pair(
    a: str,
    b: str,
    /,
    *,
    quantity: Annotated[str | None, Parameter(name="--quantity")] = None,
    measured_only: Annotated[bool, Parameter(name="--measured-only", negative="")] = False,
    common: Common | None = None,
) -> None:
    """Explain why run A costs more (or less) energy than run B, as factors that multiply to the measured ratio.

    Args:
        a: A run id, or a selector such as task=gpqa,model=Qwen/Qwen3-32B,gpu=B200,gpus=1,batch=max.
        b: The run to compare with, likewise.
        quantity: What to compare: energy_per_request_j (default), energy_per_output_j, power_w,
            itl_median_s, latency_median_s or output_throughput_per_s.
        measured_only: Leave knobs that changed together as one factor, instead of letting the model divide it.
        common: Store and output.
    """
    options = common or Common()
    explanation = explain(a, b, store=options.open(), quantity=quantity, measured_only=measured_only)
    if options.json:
        print_json(explanation.to_json())
        return
    _print(explanation)


def _print(explanation: Explanation) -> None:
    out = console()
    out.print(f"A  {explanation.a_label}  [{explanation.a}]")
    out.print(f"B  {explanation.b_label}  [{explanation.b}]\n")
    ratio = explanation.ratio
    more = f"{_times(ratio)} B's" if ratio >= 1 else f"{_times(ratio)} B's (B's is {_times(1 / ratio)} A's)"
    values = f"{figure(explanation.a_value)} against {figure(explanation.b_value)} {explanation.unit}"
    out.print(f"A's {explanation.quantity} is {more}: {values} (measured)\n")
    for factor in explanation.factors:
        known = factor.low is not None and factor.high is not None
        interval = f"{figure(factor.low)}–{figure(factor.high)}, " if known else ""
        out.print(f"  {_times(factor.ratio):>6}  {factor.name}  ({interval}{factor.basis.value})")
        out.print(Padding(Text(factor.cause), (0, 0, 0, 10), expand=False))
        if factor.parts:
            out.print(
                Padding(
                    "= " + " × ".join(f"{r:.2f}x {n}" for n, r in factor.parts.items()), (0, 0, 0, 10), expand=False
                )
            )
    out.print(f"  {explanation.unexplained_ratio:>5.3f}x  unexplained\n")
    out.print(f"These multiply to {_times(ratio)}. Intervals are 90 %; --json names the runs behind each factor.")
    for text in explanation.notes:
        note(f"note: {text}")


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if 9.95 > ratio >= 1.0 else f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.2f}x"
