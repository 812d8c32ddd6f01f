"""The push to the Hub."""
