"""Where the joules of a run went, and why two runs differ."""
