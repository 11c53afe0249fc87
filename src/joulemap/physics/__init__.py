"""Pure functions on floats and arrays: what a configuration computes, moves, holds and draws."""
