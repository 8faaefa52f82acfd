"""From any source of images, signals or volumes to batches of numbers, with everything that was changed on a ledger.

This room knows files, samples, labels, splits and pixels.
"""
