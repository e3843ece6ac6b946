"""Layer-wise relevance propagation: rules for the calls of a pass, and what may be before them."""
