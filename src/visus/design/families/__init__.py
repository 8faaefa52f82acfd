"""Families of known networks as designs, from LeNet-5 to ConvNeXt, and compact, the default."""
