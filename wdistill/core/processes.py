"""Distribute pieces of work whose results are files: each is computed once, by one process.

A process takes the next piece when it has finished one, so that a slow process does not delay the
others. If the processes share no folder (several nodes without a shared file system), results are
broadcast over the process group as bytes, so that in the end every process has all of them.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from wdistill.core.files import atomic_write
from wdistill.core.log import Progress
from wdistill.core.machine.meeting import as_peer_error, group_store, meet
from wdistill.core.settings import stable_hash

HEAD_BYTES = 2**16  # enough for the checksum and the key of a unit


@dataclass(frozen=True)
class Work:
    """Independent pieces, each with a file for its result.

    Attributes:
        name: Name of the progress bar.
        paths: The file of each piece.
        valid: Whether ``paths[i]`` holds the result of piece i.
        compute: Called with i and ``advance``; writes the file and calls ``advance(ticks)`` as it
            progresses.
        ticks: Number of progress ticks of piece i.
        tick_name: Unit of the progress bar.
        begin: Called with i before ``compute`` is, and with the next pieces while this one is not
            finished, as long as that leaves one for each other process; None if nothing can be
            begun earlier.
        ahead: How many pieces may be begun while one is not finished.
    """

    name: str
    paths: Sequence[Path]
    valid: Callable[[int], bool]
    compute: Callable[[int, Callable[[int], object]], None]
    ticks: Callable[[int], int]
    tick_name: str
    begin: Callable[[int], object] | None = None
    ahead: int = 1


def share_out(work: Work, accelerator: Accelerator, quiet: bool) -> list[int]:
    """Compute the missing results. Returns the pieces that this process computed.

    All processes must call it with the same ``work``; when it returns, every process has all
    results on its disk.
    """
    owners = _owners(work, accelerator)
    pending = [index for index, owner in enumerate(owners) if owner is None]
    store = _store(accelerator, stable_hash([work.name, [work.paths[i].name for i in pending]]))
    computed: list[int] = []
    total = sum(map(work.ticks, pending))
    silent = quiet or not pending or not accelerator.is_main_process
    with Progress(work.name, total, work.tick_name, quiet=silent) as bar:
        for index in _taken(work, pending, store, accelerator.num_processes):
            work.compute(index, bar.update)
            computed.append(index)
            bar.update(max(0, _add(store, "ticks", work.ticks(index), 0) - bar.n))
        meet(accelerator)
        if store is not None and accelerator.is_main_process:
            for counter in ("turn", "ticks"):  # the same work may come again, with another key
                store.delete_key(counter)
        bar.update(total - bar.n)
    computed_by = _gather([int(i in set(computed)) for i in range(len(owners))], accelerator)
    makers = computed_by.argmax(0).tolist()
    sources = [makers[i] if owner is None else owner for i, owner in enumerate(owners)]
    _send_files(work.paths, sources, accelerator)
    return computed


def _taken(
    work: Work, pending: Sequence[int], store: Store | None, processes: int
) -> Iterator[int]:
    """The pieces that this process takes, each begun before it is computed."""
    taken = 0

    def take(left: int) -> int | None:
        """The next piece; None unless it leaves so many for others."""
        nonlocal taken
        if _add(store, "turn", 0, taken) + left >= len(pending):
            return None
        taken += 1
        turn = _add(store, "turn", 1, taken) - 1  # another process may have been faster
        if turn >= len(pending):
            return None
        if work.begin is not None:
            work.begin(pending[turn])
        return pending[turn]

    begun: deque[int] = deque()
    while (index := begun.popleft() if begun else take(0)) is not None:
        while work.begin is not None and len(begun) < work.ahead:
            following = take(processes - 1)
            if following is None:
                break
            begun.append(following)
        yield index


def share_file(path: Path, accelerator: Accelerator) -> None:
    """Copy the main process's file to all others; if it has none, remove theirs."""
    if int(_gather([_head(path)], accelerator)[0, 0]):
        _send_files([path], [0], accelerator)
    else:
        path.unlink(missing_ok=True)


def share_folder(folder: Path, accelerator: Accelerator) -> None:
    """Copy the files of the main process's folder to all others."""
    names = json.dumps(sorted(path.name for path in folder.glob("*"))).encode()
    paths = [folder / name for name in json.loads(_broadcast_bytes(names, 0, accelerator))]
    _send_files(paths, [0] * len(paths), accelerator)


def main_process_value(value: float, accelerator: Accelerator) -> float:
    """The ``value`` of the main process."""
    if accelerator.num_processes == 1:
        return value
    meet(accelerator)
    tensor = torch.tensor([value], dtype=torch.float64, device=accelerator.device)
    return float(broadcast(tensor)[0])


def summed(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The sum of all processes' ``values``, on the CPU."""
    if accelerator.num_processes == 1:
        return values.cpu()
    meet(accelerator)
    total: Tensor = accelerator.reduce(values.to(accelerator.device), reduction="sum")
    return total.cpu()


def _owners(work: Work, accelerator: Accelerator) -> list[int | None]:
    """For each result, one process that has it and checks it; None if there is no valid one."""
    heads = _gather([_head(path) for path in work.paths], accelerator)
    rank, owners = accelerator.process_index, []
    for index, column in enumerate(heads.T):
        holders = column.nonzero()[:, 0].tolist()
        owners.append(holders[index % len(holders)] if holders else None)
    sound = _gather(
        [int(owner == rank and work.valid(i)) for i, owner in enumerate(owners)], accelerator
    )
    return [owner if any(column) else None for owner, column in zip(owners, sound.T, strict=True)]


def _send_files(paths: Sequence[Path], sources: Sequence[int], accelerator: Accelerator) -> None:
    """Send each file from its owner to the processes that lack it or have a different version."""
    if accelerator.num_processes == 1:
        return
    heads = _gather([_head(path) for path in paths], accelerator)
    rank = accelerator.process_index
    for path, owner, column in zip(paths, sources, heads.T, strict=True):
        receivers = (column != column[owner]).nonzero()[:, 0].tolist()
        if receivers:
            data = _broadcast_bytes(path.read_bytes() if rank == owner else b"", owner, accelerator)
            if rank in receivers:
                atomic_write(path, data)


def _broadcast_bytes(data: bytes, owner: int, accelerator: Accelerator) -> bytes:
    """The bytes of process ``owner``, in every process."""
    if accelerator.num_processes == 1:
        return data
    device = accelerator.device
    meet(accelerator)
    size = broadcast(torch.tensor([len(data)], device=device), from_process=owner)
    buffer = torch.zeros(int(size[0]), dtype=torch.uint8, device=device)
    if accelerator.process_index == owner:
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return bytes(broadcast(buffer, from_process=owner).cpu().numpy())


def _gather(values: Sequence[int], accelerator: Accelerator) -> Tensor:
    """(processes, n) int64 on the CPU: the ``values`` of each process."""
    local = torch.tensor(values, dtype=torch.int64)
    if accelerator.num_processes == 1:
        return local[None]
    meet(accelerator)
    values_of_all: Tensor = accelerator.gather(local.to(accelerator.device))
    return values_of_all.view(accelerator.num_processes, -1).cpu()


def _head(path: Path) -> int:
    """A number that distinguishes versions of a file; 0 if the file does not exist."""
    try:
        with path.open("rb") as file:
            text = f"{os.fstat(file.fileno()).st_size}:".encode() + file.read(HEAD_BYTES)
    except OSError:
        return 0
    return int.from_bytes(sha256(text).digest()[:7], "big") + 1


def _store(accelerator: Accelerator, name: str) -> Store | None:
    """The process group's rendezvous store; None for a single process."""
    if accelerator.num_processes == 1:
        return None
    with as_peer_error():
        return group_store(accelerator, name)


def _add(store: Store | None, key: str, amount: int, alone: int) -> int:
    """The sum over all processes so far; ``alone`` if there is only one process."""
    if store is None:
        return alone
    with as_peer_error():
        return int(store.add(key, amount))
