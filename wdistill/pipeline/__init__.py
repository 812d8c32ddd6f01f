"""Run, resume, shards, reproduce; what it will cost."""
