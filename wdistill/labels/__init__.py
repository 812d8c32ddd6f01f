"""What the teacher says of an image, once or view by view."""
