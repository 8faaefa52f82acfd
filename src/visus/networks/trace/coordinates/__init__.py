"""Which input coordinates a tensor depends on, axis by axis.

Each file answers one question: ``dependence`` what a dependence is; ``taps`` which old positions a new one reads; ``windows`` what
comes out of taps; ``layouts`` of permuting and reshaping; ``reductions`` of looking at many positions at once; ``unions`` of paths
that meet; ``writes`` of values written in place; ``gaps`` where nothing is read; ``axis_dims`` in which dimension the axis
lies; ``fields`` what receptive field a tensor has.
"""
