"""What a checkpoint is, before its weights are read: its files, its configuration, its classes."""
