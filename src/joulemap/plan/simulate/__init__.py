"""Simulate a planned fleet request by request: queues, latencies, power over time."""
