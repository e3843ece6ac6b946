"""Full gradients: the biases of all calls of a pass, and where on the image they lie."""
