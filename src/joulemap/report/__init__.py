"""Charts of what the other parts computed; they compute nothing."""
