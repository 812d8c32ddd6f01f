"""Several sets side by side under one recipe."""
