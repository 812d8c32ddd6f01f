"""The card and the push."""
