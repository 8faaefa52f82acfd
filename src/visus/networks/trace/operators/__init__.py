"""What is known of each operator of torch: rule, shape, costs."""
