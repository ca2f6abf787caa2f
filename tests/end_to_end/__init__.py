"""The whole daemon, in a process of its own, among surroundings on real interfaces."""
