"""The set on disk and on the Hub, to be read: the only format."""
