"""A shift of workers with tags, on a simulated clock: presses, faults of the field, and its own judge."""
