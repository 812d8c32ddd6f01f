"""Run a command in several processes on this machine by torchrun, as `accelerate launch` does.

`accelerate launch` itself starts only one process on a machine without a GPU (and MPI).
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping, Sequence

import torch
from accelerate.utils import patch_environment
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from wdistill.errors import OptionError, PeerError, ProcessError


def launch(
    arguments: Sequence[str], processes: int, device: str, environment: Mapping[str, str]
) -> int:
    """Run ``wdistill`` with ``arguments`` in ``processes`` processes and return its exit code.

    ``environment`` is added to that of the processes, and OMP_NUM_THREADS if it is not set, so that
    each uses its share of the cores.

    Raises:
        OptionError: There are fewer GPUs than processes.
        ProcessError: A process was killed.
        KeyboardInterrupt: This process was interrupted.
    """
    _check_devices(processes, device)
    threads = max(1, (os.cpu_count() or 1) // processes)
    variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), **environment}
    options = ["--standalone", "--nproc-per-node", str(processes), "--module", "wdistill"]
    if "--debug" not in arguments:
        logging.disable(logging.CRITICAL)  # torchrun logs every end of a process as a traceback
    try:
        with patch_environment(**variables):
            run(parse_args([*options, *arguments]))
    except SignalException as error:
        raise KeyboardInterrupt(int(error.sigval)) from None
    except ChildFailedError as error:
        return exit_code({rank: f.exitcode for rank, f in error.failures.items()}, processes)
    return 0


def exit_code(codes: Mapping[int, int], processes: int) -> int:
    """The exit code of the job.

    ``codes`` are those of its processes by rank, negative for a signal. The one that failed first
    has printed the reason. The others are consequences: they end with PeerError's code, by SIGTERM
    of torchrun and SIGKILL half a minute later, or by SIGABRT of NCCL's guard.
    """
    terminated = 128 + signal.SIGTERM  # by a process that has handled it
    signals = {rank: -code for rank, code in codes.items() if code < 0}
    signals |= {rank: signal.SIGTERM for rank, code in codes.items() if code == terminated}
    consequences = (PeerError.exit_code, terminated)
    failures = [code for code in codes.values() if code > 0 and code not in consequences]
    if failures:
        return failures[0]
    if not signals:
        raise ProcessError(
            f"the {processes} processes have lost each other; what was finished is kept, run the "
            "same command again"
        )
    killed = [rank for rank, number in signals.items() if number != signal.SIGTERM]
    rank = (killed or list(signals))[0]
    name = signal.Signals(signals[rank]).name
    raise ProcessError(
        f"process {rank + 1} of {processes} was ended by {name}; what was finished is kept, run "
        "the same command again"
    )


def _check_devices(processes: int, device: str) -> None:
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if 0 < gpus < processes:
        raise OptionError(
            f"--num-processes is {processes} but PyTorch sees {gpus} "
            f"CUDA device{'s' if gpus > 1 else ''}; give {gpus} or fewer, or --device cpu"
        )
