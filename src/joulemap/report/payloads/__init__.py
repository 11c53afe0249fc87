"""What a report rests on, computed once: one file a kind."""
