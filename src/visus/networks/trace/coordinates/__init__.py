"""Which input coordinates a tensor depends on, axis by axis.

``dependence`` is the class. The operators change it by the functions of the other files, one for each kind of change:

- ``taps``: which old positions each new position reads; ``positions_read`` applies them (windows, padding, resizing, slices).
- ``reshaping``: permute, reshape, expand. Merging a map with a dimension behind it enlarges the map, as in ``pixel_shuffle``.
- ``mixing``: positions that read many at once: reductions, global context, groups of channels.
- ``unions``: paths that meet, elementwise or concatenated. ``writes``: values written in place.
- ``gaps``: elements that read nothing. ``axis_dims``: the dimension of an axis. ``fields``: the receptive field of a tensor.
"""
