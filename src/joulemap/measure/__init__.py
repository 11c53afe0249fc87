"""Measure a real server: meters, GPU activity, engine telemetry, load clients, and the session that ties them."""
