"""Which input coordinates a tensor depends on, axis by axis.

``dependence`` defines a dependence; ``taps`` the input positions that an output position reads; ``windows`` applies taps.
``layouts`` handles permuting and reshaping; ``reductions`` operations over many positions; ``unions`` joined paths;
``writes`` values written in place; ``gaps`` elements that read nothing. ``axis_dims`` finds the dimension of an axis;
``fields`` computes the receptive field of a tensor.
"""
