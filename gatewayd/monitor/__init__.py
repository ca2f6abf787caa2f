"""`gatewayd monitor`: the ops side in a terminal. It knows the wire contract and nothing of the daemon."""
