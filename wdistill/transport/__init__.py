"""Optimal transport: summarise the real images of a class by a few weighted atoms."""
