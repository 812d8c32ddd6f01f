"""Train students on a set and on real images, and report the comparison."""
