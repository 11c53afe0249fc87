"""The pages, one a file; each has a ``router`` and a template of its name."""
