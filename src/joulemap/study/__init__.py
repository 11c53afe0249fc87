"""The study "Where Do the Joules Go?": its published claims and its figures, from the runs of a store.

The study: "Where Do the Joules Go? Diagnosing Inference Energy Consumption" (arXiv 2601.22076, 2026-01).
"""

from joulemap.study.claim import Claim
from joulemap.study.reproduce import reproduce

__all__ = ["Claim", "reproduce"]
