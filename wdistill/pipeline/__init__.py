"""Run, resume, shard, reproduce and estimate."""
