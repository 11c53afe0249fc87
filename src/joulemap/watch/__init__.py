"""Continuous measurement beside a server: a rolling diagnosis, a bill that adds up to the meter, and their export.

The one part that both measures and diagnoses; ``design/0009-watch-between-measure-and-diagnose.md`` says why.
"""
