"""Findings, one a file: what each looks for, what shows it, the lever, and what would prove it wrong.

A finding's module has ``NAME``, a function ``find(case)`` and, where its lever has a predicted effect, a function
``alternative(frame)`` that returns changed copies of the runs to which the lever applies. Third parties add modules
through the entry-point group ``joulemap.findings``.
"""
