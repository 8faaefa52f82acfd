"""Datasets of images, signals or volumes: reading, splitting, decoding, and batches. A ledger lists every change to a sample."""
