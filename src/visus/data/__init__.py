"""From any source of pictures, recordings or volumes to batches of numbers, with everything that was changed on a ledger.

This room knows files, items, labels, splits and pixels. It must not know networks.
"""
