"""The memory of a design during training and inference: tensors saved by autograd, buffers of convolutions, and the peak."""
