"""What may be said of a report: differences, worth, and its table."""
