"""Files, seeds, text, devices, processes, units of work and the log: knows nothing of images."""
