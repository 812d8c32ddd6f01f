"""Files, seeds, text, devices, processes, units, settings, the log: knows nothing of images."""
