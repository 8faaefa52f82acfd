"""Which input coordinates a tensor depends on."""
