"""``joulemap recommend``."""

from __future__ import annotations

from rich.padding import Padding
from rich.text import Text

from joulemap.cli.choice_options import LimitOptions, ScopeOptions, constraints_of, scope_of
from joulemap.cli.output import Common, console, figure, note, print_json, print_table
from joulemap.diagnose.diagnosis import Change
from joulemap.errors import UsageError
from joulemap.optimize.choice import Recommendation, recommend, words
from joulemap.optimize.quantities import OUTCOMES
from joulemap.records.run import unit_of
from joulemap.store.run_store import RunStore
from joulemap.store.selector import find_run, parse_selector


def recommend_configuration(
    *,
    model: str | None = None,
    task: str | None = None,
    current: str | None = None,
    limits: LimitOptions | None = None,
    scope: ScopeOptions | None = None,
    common: Common | None = None,
) -> None:
    """Recommend the configuration of least energy under limits, and say what it buys.

    Args:
        model: Model id or nickname; by default that of the current configuration.
        task: A task of the store; by default that of the current configuration.
        current: What is served now: a run id, or a selector such as gpu=H100,gpus=1,batch=64.
        limits: What has to be kept.
        scope: What may be chosen.
        common: Store and output.
    """
    options = common or Common()
    store = options.open()
    model, task = _asked(store, model, task, current)
    found = recommend(
        scope_of(model, task, scope or ScopeOptions()),
        constraints_of(limits or LimitOptions()),
        current=current,
        store=store,
    )
    if options.json:
        print_json(found.to_json())
    else:
        _print(found)
    for text in found.notes:
        note(f"note: {text}")


def _asked(store: RunStore, model: str | None, task: str | None, current: str | None) -> tuple[str, str]:
    """Return model and task, taken from the current configuration where they are not given."""
    if current is not None and "=" in current:
        values = parse_selector(current).values
        model, task = model or values.get("model"), task or values.get("task")
    elif current is not None:
        run = find_run(store, current)
        model, task = model or run["model_id"], task or run["task"]
    if model is None or task is None:
        lacking = "--model" if model is None else "--task"
        msg = f"{lacking} is not given, and --current does not tell it"
        raise UsageError(msg, fix=f"give {lacking}, or --current with a run id")
    return model, task


def _print(found: Recommendation) -> None:
    out = console()
    choice = found.choice
    out.print(
        f"{choice['nickname'] or choice['model_id']} · {choice['task']}: {words(choice)}  [{choice['basis']}]\n"
    )
    rows = [
        [
            name,
            figure(choice[name]),
            unit_of(name, choice["output_unit"]),
            f"{figure(choice[f'{name}_low'])}–{figure(choice[f'{name}_high'])}",
            choice[f"{name}_basis"],
        ]
        for name in OUTCOMES
        if choice[name] is not None
    ]
    print_table("", ["quantity", "value", "unit", "90 % interval", "basis"], rows)
    _print_confidence(found)
    _print_way(found)
    if found.runners_up:
        unit = f"J/{choice['output_unit']}"
        others = [
            [
                words(row),
                figure(row["energy_per_output_j"]),
                f"{figure(row['energy_per_output_j_low'])}–{figure(row['energy_per_output_j_high'])}",
                row["basis"],
            ]
            for row in found.runners_up
        ]
        print_table("next best", ["configuration", unit, "90 % interval", "basis"], others)
    _print_advice(found)
    following = found.next_measurement
    if following is not None:
        worth, chance = following.worth_fraction, following.change_probability
        out.print(
            f"Most worth measuring next ({worth:.2%} expected saving, {chance:.0%} likely to change the choice): "
            f"{words(following.row)}, now {following.row['basis']}"
        )
        out.print(f"  $ {following.command}", soft_wrap=True)


def _print_confidence(found: Recommendation) -> None:
    out = console()
    copies = f"; {found.replicas_needed} replicas are needed" if found.replicas_needed > 1 else ""
    out.print(
        f"Least energy of {found.feasible_candidates} configurations that keep every limit at "
        f"{found.constraints.confidence:.0%} (of {found.candidates}): {found.least_probability:.0%} likely; "
        f"keeps all limits: {found.keeps_probability:.0%} likely{copies}"
    )


def _print_way(found: Recommendation) -> None:
    if found.way is None or found.current is None:
        return
    out = console()
    ratio, unit = found.way.energy_ratio, f"J/{found.choice['output_unit']}"
    before, after = (figure(row["energy_per_output_j"]) for row in (found.current, found.choice))
    out.print(
        f"\nNow: {words(found.current)} [{found.current['basis']}]. {before} → {after} {unit}: "
        f"{_percent(ratio)} (90 %: {_percent(found.energy_ratio_min)} to {_percent(found.energy_ratio_max)}); "
        f"saves energy: {found.saves_probability:.0%} likely"
    )
    for step in found.steps:
        change = step.change
        known = change.energy_ratio_min is not None
        interval = f"{figure(change.energy_ratio_min)}–{figure(change.energy_ratio_max)}, " if known else ""
        out.print(f"  {figure(change.energy_ratio):>6}x  {step.knob}  ({interval}{change.basis.value})")
        out.print(Padding(Text(step.cause), (0, 0, 0, 10), expand=False))
    out.print(f"  {found.way.unexplained_ratio:.3f}x  unexplained")
    for lever, text in found.costs.items():
        out.print(f"  {lever} costs: {text}")


def _print_advice(found: Recommendation) -> None:
    rows = [[a.lever, a.option, *_changes(a.change), a.change.basis.value] for a in found.advice]
    if rows:
        columns = ["lever", "setting", "energy", "90 % interval", "latency", "throughput", "basis"]
        print_table("other levers, none of them pulled here", columns, rows, left=2)
        for lever, costs in {a.lever: a.costs for a in found.advice}.items():
            note(f"{lever} costs: {costs}")


def _changes(change: Change) -> list[str]:
    low, high = _percent(change.energy_ratio_min), _percent(change.energy_ratio_max)
    return [
        _percent(change.energy_ratio),
        f"{low} to {high}",
        _percent(change.latency_ratio),
        _percent(change.throughput_ratio),
    ]


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * (ratio - 1):+.0f} %"
