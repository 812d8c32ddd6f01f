"""The environment that tests run in: no setting of the user's, and a Hugging Face home of its own.

The libraries read these variables when they are imported, so :func:`isolate` comes first.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

PREFIXES = (
    "ACCELERATE_", "CUDA_", "DATASETS_", "GLOO_", "HF_", "HUGGINGFACE_", "HUGGING_FACE_", "KMP_",
    "MASTER_", "MKL_", "NCCL_", "OMP_", "PYTORCH_", "TORCH_", "TORCHELASTIC_", "TRANSFORMERS_",
    "WDISTILL_",
)  # fmt: skip
NAMES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
    "DNNL_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE",
)  # fmt: skip
KEPT = ("WDISTILL_GOLDEN",)  # asked for by the person who runs the tests
LOOPBACK = "127.0.0.1,localhost"


def isolate() -> None:
    """Clear what a user may have set. Other processes of the session share the first one's home."""
    home = os.environ.get("HF_HOME") if "PYTEST_XDIST_WORKER" in os.environ else None
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background jobs inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if (name.startswith(PREFIXES) or name in NAMES) and name not in KEPT:
            del os.environ[name]
    if home is None:
        home = tempfile.mkdtemp(prefix="wdistill-tests-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    # A proxy is for packages; the Hub of the tests is on this machine.
    os.environ |= {"HF_HOME": home, "OMP_NUM_THREADS": "1"}
    os.environ |= {"no_proxy": LOOPBACK, "NO_PROXY": LOOPBACK}


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that a test starts."""
    return os.environ | changes
