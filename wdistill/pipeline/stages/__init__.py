"""The stages after the teacher: each computes the units that are missing and reads the rest."""
