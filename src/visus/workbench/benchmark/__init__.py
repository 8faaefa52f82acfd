"""``visus.benchmark``: how fast a network is on this machine, in every way to compute it."""
