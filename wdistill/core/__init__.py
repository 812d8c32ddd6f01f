"""Files, seeds, text, devices, processes, units, settings and the log; independent of images."""
