"""Recipes by name: how students are trained, here and in the papers."""
