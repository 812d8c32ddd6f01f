"""On PYTHONPATH, it makes the processes of a group wait in C++ for one another before each
collective, as NCCL's do: Python handles no signal meanwhile, and a peer that has ended is not
noticed. A model of NCCL, not NCCL.
"""

import os

if "RANK" in os.environ:
    from collections.abc import Callable
    from datetime import timedelta

    import torch.distributed as dist

    COLLECTIVES = ("all_gather", "all_gather_into_tensor", "all_reduce", "broadcast")
    count = [0]

    def wait(*_: object, **__: object) -> None:
        store = dist.distributed_c10d._get_default_store()
        count[0] += 1
        key = f"waiting-{count[0]}"
        if store.add(key, 1) == dist.get_world_size():
            store.set(f"{key}-over", b"1")
        store.wait([f"{key}-over"], timedelta(days=1))

    def after_a_wait(collective: Callable[..., object]) -> Callable[..., object]:
        def waiting(*arguments: object, **named: object) -> object:
            wait()
            return collective(*arguments, **named)

        return waiting

    dist.barrier = wait
    for name in COLLECTIVES:
        setattr(dist, name, after_a_wait(getattr(dist, name)))
