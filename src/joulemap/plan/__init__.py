"""Which fleet serves a demand under a power cap, what it costs, and whether it holds up in simulation."""
