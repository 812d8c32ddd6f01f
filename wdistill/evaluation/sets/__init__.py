"""The sets of images that are compared."""
