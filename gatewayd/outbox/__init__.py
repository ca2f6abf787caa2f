"""`gatewayd outbox`: what waits on this gateway, or on a card taken from a dead one. It only ever reads."""
