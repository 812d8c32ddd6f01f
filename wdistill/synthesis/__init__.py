"""Optimise pixels so that their features match the atoms."""
