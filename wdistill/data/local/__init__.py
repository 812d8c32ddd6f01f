"""Files on this machine: folders of images, archives of them, tables."""
