"""Calibration of the physics on runs, and prediction of configurations that nobody has measured."""
