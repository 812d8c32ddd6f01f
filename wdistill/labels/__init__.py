"""The teacher's labels of an image: averaged, or one per view."""
