"""Reproduce a published set and compare the two."""
