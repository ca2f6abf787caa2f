"""The measurements of `scripts/bench`: the real daemon in simulated surroundings, beside the bare libraries.

Nothing here is a test: a figure that is missed is reported, for the machine may simply be busy. Whatever is
timed is judged beside something that ran at the same time on the same machine.
"""
