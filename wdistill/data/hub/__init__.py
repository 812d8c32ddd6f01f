"""Datasets of the Hub: built by `datasets`, read as folders, or streamed."""
