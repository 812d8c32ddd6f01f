"""Any image classifier: load it, train it, look through it."""
