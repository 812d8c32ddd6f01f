"""A published set made again and compared."""
