"""The format of a distilled set: writing, reading and checking it."""
