"""`gatewayd selftest`: looks at each thing that can be wrong with a gateway, and says what to do about it.

A module for each subject: what it looks at, and a pure `judge` that makes findings of what was found.
`checks.py` says what is left alone while the daemon runs; `run.py` does all checks at the same time.
"""
