"""Peers beside us, in one run: each in a process and an environment of its own, all of them in turn."""
