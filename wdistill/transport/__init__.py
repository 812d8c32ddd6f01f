"""A class of real images as a few weighted atoms."""
