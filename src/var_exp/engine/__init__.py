"""What runs the network: passes for many classes at once, and what gets between their calls."""
