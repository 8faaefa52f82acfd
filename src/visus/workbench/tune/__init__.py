"""Search of settings: trials of a training over a stated space, on validation samples only."""
