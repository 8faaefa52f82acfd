"""Runs compared sample by sample."""
