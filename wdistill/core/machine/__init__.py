"""This machine and the other processes of a job: meeting them, and numerics of its device."""
