"""Which knob, how far, what it buys: candidates, frontier, recommendation, next measurement."""
