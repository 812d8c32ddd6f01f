"""The stages after the teacher: each computes its missing units and reads the others."""
