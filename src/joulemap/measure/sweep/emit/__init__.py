"""Job files for sites that run a sweep through their own scheduler: one scheduler a file."""
