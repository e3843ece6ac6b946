"""The two primitives that carry every method, and what bends them: rules, chunks, scores."""
