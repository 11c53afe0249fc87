"""Sweeps: many configurations, measured one after the other or side by side, here or on a cluster."""
