"""What people would use instead, measured beside gatewayd: `scripts/bench --peers`.

Each system stands between the same two ends: a feed that hands it marked messages and hears which of them it
accepted, and, behind a TCP proxy that plays the link, a broker whose recorder notes what arrives and when.
The same sizes, the same rates and the same faults for all of them. The recorder knows nothing of any system:
it looks for the marks, however they are wrapped. How well each hears a button is a trial
of its own, with the whole daemon.

- `feed`: messages, and what was put and accepted of them;  `publisher`: the bridge's local client
- `gatewayd_process`: gatewayd's outbox and uplink, fed likewise;  `connector`: runs inside ThingsBoard's
- `systems`: how each is configured, started, killed;  `install`: where the peers come from
- `rig`: proxy, broker, recorder;  `trials`: what is done to a system, and what is counted
- `hearers`, `hearing`: who hears presses over a shared air, and what is counted
- `results`: what was measured so far, on disk;  `rows`, `report`, `plot`, `page.md`: what people read
"""
