"""What is in image files."""
