"""Where do the joules go? Measure, explain, predict and plan the energy of generative-AI inference.

>>> import joulemap as jm
>>> runs = jm.open_store("/tmp/no-such-folder")
>>> len(runs)
0

The names below are loaded when first used, so that ``import joulemap`` costs next to nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType

# As type checkers know it; the module typing alone would take longer to load than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from joulemap.diagnose.breakdown import Breakdown, breakdown
    from joulemap.diagnose.diagnose import diagnose
    from joulemap.diagnose.diagnosis import Diagnosis, Finding
    from joulemap.diagnose.explain import explain
    from joulemap.diagnose.explanation import Explanation, Factor
    from joulemap.diagnose.sensitivity import Elasticity, sensitivity
    from joulemap.errors import JoulemapError
    from joulemap.measure.doctor import Examination, examine_machine
    from joulemap.optimize.choice import Recommendation, recommend
    from joulemap.optimize.constraints import Constraints
    from joulemap.optimize.information import next_measurements
    from joulemap.optimize.scope import Scope
    from joulemap.optimize.tradeoff import Frontier, frontier
    from joulemap.plan.budget import BudgetReport, EnergyBudget, energy_budget
    from joulemap.plan.fleet import FleetPlan, plan_fleet
    from joulemap.plan.plan_file import read_plan
    from joulemap.plan.procurement import Comparison, compare_gpus
    from joulemap.plan.simulate.simulate import Load, Simulation, simulate_plan
    from joulemap.plan.spec import PlanSpec
    from joulemap.predict.backtest import Backtest, backtest
    from joulemap.predict.calibration import Calibration, calibrate
    from joulemap.predict.predict import predict_many
    from joulemap.predict.single import predict
    from joulemap.records import (
        Basis,
        Deployment,
        LengthDistribution,
        Measured,
        Modality,
        OutputUnit,
        Provenance,
        Quantity,
        Run,
        Validity,
        Workload,
    )
    from joulemap.records.estimate import Estimate
    from joulemap.report.document import Document
    from joulemap.report.renderers.write import write_report
    from joulemap.report.report import report
    from joulemap.store.data_card import DatasetDescription
    from joulemap.store.dataset import publish_dataset
    from joulemap.store.importers import import_path
    from joulemap.store.run_store import RunStore, open_store
    from joulemap.store.selector import find_run, select
    from joulemap.study import Claim, reproduce

__version__ = "0.1.0"

__all__ = [
    "Backtest",
    "Basis",
    "Breakdown",
    "BudgetReport",
    "Calibration",
    "Claim",
    "Comparison",
    "Constraints",
    "DatasetDescription",
    "Deployment",
    "Diagnosis",
    "Document",
    "Elasticity",
    "EnergyBudget",
    "Estimate",
    "Examination",
    "Explanation",
    "Factor",
    "Finding",
    "FleetPlan",
    "Frontier",
    "JoulemapError",
    "LengthDistribution",
    "Load",
    "Measured",
    "Modality",
    "OutputUnit",
    "PlanSpec",
    "Provenance",
    "Quantity",
    "Recommendation",
    "Run",
    "RunStore",
    "Scope",
    "Simulation",
    "Validity",
    "Workload",
    "__version__",
    "backtest",
    "breakdown",
    "calibrate",
    "compare_gpus",
    "diagnose",
    "energy_budget",
    "examine_machine",
    "explain",
    "find_run",
    "frontier",
    "import_path",
    "next_measurements",
    "open_store",
    "plan_fleet",
    "predict",
    "predict_many",
    "publish_dataset",
    "read_plan",
    "recommend",
    "report",
    "reproduce",
    "select",
    "sensitivity",
    "simulate_plan",
    "write_report",
]

_HOMES = {
    "joulemap.diagnose.breakdown": ("Breakdown", "breakdown"),
    "joulemap.diagnose.diagnose": ("diagnose",),
    "joulemap.diagnose.diagnosis": ("Diagnosis", "Finding"),
    "joulemap.diagnose.explain": ("explain",),
    "joulemap.diagnose.explanation": ("Explanation", "Factor"),
    "joulemap.diagnose.sensitivity": ("Elasticity", "sensitivity"),
    "joulemap.errors": ("JoulemapError",),
    "joulemap.measure.doctor": ("Examination", "examine_machine"),
    "joulemap.optimize.choice": ("Recommendation", "recommend"),
    "joulemap.optimize.constraints": ("Constraints",),
    "joulemap.optimize.information": ("next_measurements",),
    "joulemap.optimize.scope": ("Scope",),
    "joulemap.optimize.tradeoff": ("Frontier", "frontier"),
    "joulemap.plan.budget": ("BudgetReport", "EnergyBudget", "energy_budget"),
    "joulemap.plan.fleet": ("FleetPlan", "plan_fleet"),
    "joulemap.plan.plan_file": ("read_plan",),
    "joulemap.plan.procurement": ("Comparison", "compare_gpus"),
    "joulemap.plan.simulate.simulate": ("Load", "Simulation", "simulate_plan"),
    "joulemap.plan.spec": ("PlanSpec",),
    "joulemap.predict.backtest": ("Backtest", "backtest"),
    "joulemap.predict.calibration": ("Calibration", "calibrate"),
    "joulemap.predict.predict": ("predict_many",),
    "joulemap.predict.single": ("predict",),
    "joulemap.records": (
        *("Basis", "Deployment", "LengthDistribution", "Measured", "Modality", "OutputUnit"),
        *("Provenance", "Quantity", "Run", "Validity", "Workload"),
    ),
    "joulemap.records.estimate": ("Estimate",),
    "joulemap.report.document": ("Document",),
    "joulemap.report.renderers.write": ("write_report",),
    "joulemap.report.report": ("report",),
    "joulemap.store.importers": ("import_path",),
    "joulemap.store.run_store": ("RunStore", "open_store"),
    "joulemap.store.selector": ("find_run", "select"),
    "joulemap.store.data_card": ("DatasetDescription",),
    "joulemap.store.dataset": ("publish_dataset",),
    "joulemap.study": ("Claim", "reproduce"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


# Hidden from type checkers, to whom it would say that any name exists.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from importlib import import_module

        value: object = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__


class _Face(ModuleType):
    """This package as a module whose public functions stay what they are.

    Python binds an imported subpackage to its parent: importing ``joulemap.predict`` would put the package in
    the place of the function ``joulemap.predict``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
