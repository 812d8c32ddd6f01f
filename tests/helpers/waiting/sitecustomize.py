"""On PYTHONPATH, it makes the barrier of a process group wait in C++ as NCCL's does: Python handles
no signal meanwhile, and a peer that has ended is not noticed. A model of NCCL, not NCCL.
"""

import os

if "RANK" in os.environ:
    from datetime import timedelta

    import torch.distributed as dist

    count = [0]

    def barrier(*_: object, **__: object) -> None:
        store = dist.distributed_c10d._get_default_store()
        count[0] += 1
        key = f"waiting-{count[0]}"
        if store.add(key, 1) == dist.get_world_size():
            store.set(f"{key}-over", b"1")
        store.wait([f"{key}-over"], timedelta(days=1))

    dist.barrier = barrier
