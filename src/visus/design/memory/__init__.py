"""The memory of a design at work: what autograd saves of each layer, buffers of convolutions, and the largest total at once."""
