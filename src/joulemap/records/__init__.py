"""Frozen value types that every part of joulemap shares."""

from joulemap.records.deployment import Deployment
from joulemap.records.estimate import Estimate
from joulemap.records.measured import Annotations, Measured, Provenance, Validity
from joulemap.records.quantity import Basis, Quantity, weakest
from joulemap.records.run import Run
from joulemap.records.workload import LengthDistribution, Modality, OutputUnit, Workload

__all__ = [
    "Annotations",
    "Basis",
    "Deployment",
    "Estimate",
    "LengthDistribution",
    "Measured",
    "Modality",
    "OutputUnit",
    "Provenance",
    "Quantity",
    "Run",
    "Validity",
    "Workload",
    "weakest",
]
