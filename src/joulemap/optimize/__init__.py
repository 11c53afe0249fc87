"""Which knob, how far, what it buys: candidates, frontier, recommendation, next measurement.

>>> from joulemap.optimize import Constraints, Scope, recommend
"""

from joulemap.optimize.choice import Recommendation, recommend
from joulemap.optimize.constraints import Constraints
from joulemap.optimize.information import Measurement, next_measurements
from joulemap.optimize.scope import Scope
from joulemap.optimize.tradeoff import Comparison, Frontier, compare, frontier

__all__ = [
    "Comparison",
    "Constraints",
    "Frontier",
    "Measurement",
    "Recommendation",
    "Scope",
    "compare",
    "frontier",
    "next_measurements",
    "recommend",
]
