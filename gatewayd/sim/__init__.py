"""Stand-ins for the outside, each on the real interface; used by the demo, by training and by tests."""
