"""A measurement session: work goes on, instruments watch, steady windows are cut out, and each level becomes a run.

``work`` says what any work tells of itself; ``steady`` finds where its transient ends; ``windows`` turns windows
into estimates with intervals; ``level`` runs one level, ``session`` all of them, and ``verdict`` judges them.
"""
