"""Levers, one a file: what can be changed of a configuration, and what that costs.

A lever's module has ``NAME``, ``COSTS`` (what latency or quality it takes), ``EVIDENCE`` (where its effect is known
from), ``applies(row)`` and ``options(frame)``, which returns changed copies of the rows.
"""
