"""Pixels towards atoms."""
