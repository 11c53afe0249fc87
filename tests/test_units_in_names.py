"""A numeric field's name ends in its unit, unless it is a plain count, share or ratio."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import joulemap

PACKAGE = Path(joulemap.__file__).parent

UNITS = re.compile(
    r"(^|_)(j|w|s|hz|bytes|tokens?|flops|params|px|c|usd|g|kg|billions)$"  # energy_j, mean_output_tokens
    r"|_per_[a-z0-9]+(_[a-z]+)?$"  # energy_j_per_token, output_throughput_per_s, energy_per_output_j
)
SHARES_AND_RATIOS = re.compile(
    r"(^|_)(utilization|fraction|share|ratio|margin|occupancy|rate|confidence|quantile|probability|p_value"
    r"|efficiency|elasticity|exponent|scale|factor|coverage|variation|pue)s?(_max|_min|_mean)?$"
)
COUNTS = re.compile(
    r"(^|_)(batch|batches|batch_size|ceiling|requests|requests_(waiting|running|finished)|preemptions|in_flight"
    r"|outputs|samples|gpus|replicas|copies|pixels|steps|frames|calls|layers|blocks|heads|experts|width|hidden_size"
    r"|vocab_size|ulysses|ring)$"
)
STATISTICS = re.compile(r"(^|_)(prior|spread|vector|covariance|cost|weight|deviation|mdape|p90ape|coverage90)$")
"""Of fitted vectors, whose entries each have their own unit, or none (logarithms)."""
UNIT_IS_BESIDE = {
    **dict.fromkeys(
        ("value", "low", "high", "mean", "limit", "upper", "highest", "bound", "excess"),
        "of a quantity whose name or unit stands beside it",
    ),
    "a_value": "Explanation.unit",
    "b_value": "Explanation.unit",
    "begin_value": "Waterfall.axis",
    "end_value": "Waterfall.axis",
    "measured_value": "Prediction.unit",
    "predicted_value": "Prediction.unit",
    "values": "Trace.unit",
    "edges": "bin edges of lengths, in tokens",
    "relative_interval": "a pair of ratios",
    "speed": "times the recorded speed",
    "hypervolume": "an area in logarithms of both costs",
    "length": "Kernel: of logarithms",
    "latent_kv": "a count of cached numbers",
    "expert_split": "1 or 0, in arrays",
    "video": "1 or 0, in arrays",
    "joint": "1 or 0, in arrays",
    "deep_decoder": "1 or 0, in arrays",
    "narrow_host": "1 or 0, in arrays",
    "sorted_sampler": "1 or 0, in arrays",
    "block_scaled": "1 or 0, in arrays",
    "fp8_linear": "1 or 0, in arrays",
    "fp8_experts": "1 or 0, in arrays",
    "mxfp4_experts": "1 or 0, in arrays",
    "total": "PublishedParams: parameters",
    "active": "PublishedParams: parameters",
    "non_embedding": "PublishedParams: parameters",
}
"""Names of floats that need no unit of their own, with the reason."""

DIMENSIONED_WORDS = re.compile(
    r"(^|_)(energy|power|watts|joules|time|duration|latency|delay|timeout|interval|period|frequency|clock"
    r"|memory|bandwidth|temperature)$"
)
"""A count may go without unit, but no name may end in one of these words."""


def test_every_quantity_says_its_unit() -> None:
    assert "\n".join(problems(PACKAGE)) == ""


@pytest.mark.parametrize(
    ("field", "good"),
    [
        ("energy_j: float", True),
        ("energy: float", False),
        ("power_mw: float", False),
        ("latency_ms: float | None = None", False),
        ("speed_up: float = 1.0", False),
        ("throughput: NDArray[np.float64]", False),
        ("lengths: tuple[float, ...]", False),
        ("timeout: int", False),
        ("layers: int", True),
        ("starved_fraction: float", True),
        ("energy_j_per_token: float", True),
        ("label: str", True),
        ("by_name: dict[str, float]", True),
    ],
)
def test_the_check_itself(tmp_path: Path, field: str, good: bool) -> None:
    (tmp_path / "module.py").write_text(f"@dataclass(frozen=True)\nclass Planted:\n    {field}\n")
    assert (list(problems(tmp_path)) == []) is good


def problems(package: Path) -> Iterator[str]:
    """Yield a line for each numeric dataclass field whose unit is not in its name."""
    for path in sorted(package.rglob("*.py")):
        for where, name, is_float in numeric_fields(path):
            said = any(known.search(name) for known in (UNITS, SHARES_AND_RATIOS, COUNTS, STATISTICS))
            unsaid = DIMENSIONED_WORDS.search(name) or (is_float and not said)
            if unsaid and name not in UNIT_IS_BESIDE:
                yield f"{where} ({path.relative_to(package)}) does not say its unit"


def numeric_fields(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield class and field, name, and whether it is a float, of each numeric field of a module's dataclasses."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef):
            continue
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        # Options of the command line are named for people, and their help states the unit; what is private to a
        # module is read beside its definition.
        if "dataclass" not in decorators or "Parameter" in decorators or node.name.startswith("_"):
            continue
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                kind = _kind(statement.annotation)
                if kind is not None:
                    yield f"{node.name}.{statement.target.id}", statement.target.id, kind == "float"


def _kind(annotation: ast.expr) -> str | None:
    """Return ``float`` or ``int`` for numbers, tuples and arrays of them; ``None`` for all else."""
    if isinstance(annotation, ast.BinOp):
        kinds = {_kind(annotation.left), _kind(annotation.right)}
        return "float" if "float" in kinds else "int" if "int" in kinds else None
    if isinstance(annotation, ast.Subscript):
        outer = ast.unparse(annotation.value)
        inner = ast.unparse(annotation.slice)
        if outer.endswith("NDArray"):
            return "float" if "float" in inner else "int"
        return ("float" if "float" in inner else None) if outer in {"tuple", "Sequence"} else None
    name = ast.unparse(annotation)
    if name in {"float", "int"}:
        return name
    return "float" if name in {"FloatArray", "Floats"} else None
