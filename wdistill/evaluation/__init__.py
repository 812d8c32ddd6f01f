"""Students on the set and on real images, and the page about it."""
