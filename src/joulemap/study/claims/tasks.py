"""Claims about how much the task itself decides: reply lengths, and energy per response."""

from __future__ import annotations

from typing import Any

from joulemap.study.claim import ClaimDefinition, Outcome
from joulemap.study.runs import MissingRunsError, StudyRuns, minimum_energy

_MODEL = "Qwen/Qwen3-32B"


def _means(runs: StudyRuns, column: str) -> tuple[float, float, str]:
    """Return the mean of a column over models' minimum-energy configurations, for both tasks."""
    means, counts = [], []
    for task in ("gpqa", "lm-arena-chat"):
        best = minimum_energy(runs.pick(task=task, gpu_model="B200"), ["model_id"])
        mean = best[column].drop_nulls().mean()
        if not isinstance(mean, float):
            msg = f"no B200 run of {task} states {column}"
            raise MissingRunsError(msg)
        means.append(mean)
        counts.append(best.height)
    return means[0], means[1], f"means over the minimum-energy configurations of {counts[0]} and {counts[1]} models"


def _tokens(runs: StudyRuns) -> Outcome:
    solving, conversation, note = _means(runs, "mean_output_tokens")
    return Outcome(
        computed=f"{solving:,.0f} vs {conversation:,.0f} ({solving / conversation:.0f}x)",
        values={"gpqa_tokens": solving, "lm_arena_chat_tokens": conversation},
        note=note,
    )


def _energy(runs: StudyRuns) -> Outcome:
    solving, conversation, note = _means(runs, "energy_per_request_j")
    return Outcome(
        computed=f"{solving:,.0f} J vs {conversation:,.0f} J ({solving / conversation:.0f}x)",
        values={"gpqa_j": solving, "lm_arena_chat_j": conversation},
        note=note,
    )


def _case(runs: StudyRuns) -> Outcome:
    sides: list[dict[str, Any]] = []
    for task in ("lm-arena-chat", "gpqa"):
        values: dict[str, object] = {"task": task, "model_id": _MODEL, "gpu_model": "B200", "num_gpus": 1}
        curve = runs.pick(**values)
        largest = curve.sort("batch_ceiling").row(-1, named=True)
        at_128 = runs.pick(**values, batch_ceiling=128.0).row(0, named=True)
        sides.append({**largest, "energy_at_128_j": at_128["energy_per_output_j"]})
    pairs = {
        column: (sides[0][column], sides[1][column])
        for column in (
            "batch_ceiling",
            "mean_output_tokens",
            "energy_at_128_j",
            "energy_per_output_j",
            "energy_per_request_j",
        )
    }
    for column, pair in pairs.items():
        if None in pair:
            msg = f"the runs of {_MODEL} on 1x B200 do not state {column}"
            raise MissingRunsError(msg)
    text = {column: f"{a:{_DIGITS[column]}} vs {b:{_DIGITS[column]}}" for column, (a, b) in pairs.items()}
    chat_j, solving_j = pairs["energy_per_request_j"]
    return Outcome(
        computed=(
            f"max batch {text['batch_ceiling']}; tokens {text['mean_output_tokens']}; "
            f"E at batch 128 {text['energy_at_128_j']}; E at max batch {text['energy_per_output_j']}; "
            f"energy/response {chat_j:,.0f} J vs {solving_j:,.0f} J ({solving_j / chat_j:.0f}x)"
        ),
        values={
            f"{task}_{column}": pair[i]
            for column, pair in pairs.items()
            for i, task in enumerate(("lm_arena_chat", "gpqa"))
        },
        note="E is energy per token in J",
    )


_DIGITS = {
    "batch_ceiling": ".0f",
    "mean_output_tokens": ",.0f",
    "energy_at_128_j": ".3f",
    "energy_per_output_j": ".3f",
    "energy_per_request_j": ",.0f",
}

CLAIMS = (
    ClaimDefinition(
        id="task.tokens",
        statement="Mean output tokens, Problem Solving vs Text Conversation, B200",
        published="6,988 vs 717 (10x)",
        compute=_tokens,
    ),
    ClaimDefinition(
        id="task.energy",
        statement="Mean energy per response, Problem Solving vs Text Conversation, B200",
        published="4,625 J vs 184 J (25x)",
        compute=_energy,
    ),
    ClaimDefinition(
        id="case.qwen32b",
        statement="Qwen 3 32B on 1x B200, Text Conversation vs Problem Solving",
        published=(
            "max batch 512 vs 128; tokens 627 vs 7,035; E at batch 128 0.209 vs 0.312; "
            "E at max batch 0.151 vs 0.312; energy/response 95 J vs 2,192 J (23x)"
        ),
        compute=_case,
    ),
)
