"""Where the configurations of a sweep run: one executor a file."""
