"""The files of a checkpoint: which weights are there, and why some are never read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from wdistill.core.text import clean
from wdistill.errors import BackboneError

WEIGHTS = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OTHERS = (
    ".gguf", ".h5", ".hdf5", ".keras", ".mlmodel", ".msgpack", ".npz", ".onnx", ".ot", ".pb",
    ".pdparams", ".tflite",
)  # fmt: skip
TRAINING = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth")
POINTER = b"version https://git-lfs.github.com"


def files_of(folder: Path) -> list[str]:
    """The files of a local checkpoint, by their paths below it; those of a Trainer's run or of
    an export may lie one or two folders deeper.
    """
    deeper = (path for pattern in ("*", "*/*", "*/*/*") for path in folder.glob(pattern))
    return sorted(path.relative_to(folder).as_posix() for path in deeper if path.is_file())


def has_weights(files: Sequence[str], subject: str) -> bool:
    """Whether the weights among ``files`` can be read; False where there are none of any kind.

    Raises:
        BackboneError: There are only weights of another kind, or in another folder.
    """
    paths = [PurePosixPath(file) for file in files]
    kinds = (WEIGHTS, *PICKLED, *OTHERS)
    weights = [
        path
        for path in paths
        if path.name.removesuffix(".index.json").endswith(kinds) and path.name not in TRAINING
    ]
    if any(len(path.parts) == 1 and path.suffix == WEIGHTS for path in weights):
        return True
    if not weights:
        return False
    nearest = min(weights, key=lambda path: (path.suffix != WEIGHTS, len(path.parts), path.name))
    if nearest.suffix == WEIGHTS:
        raise BackboneError(
            f"{subject} has its weights in a folder of its own ({clean(str(nearest))}); give the "
            "folder that holds config.json and the weights"
        )
    ending = nearest.name.removesuffix(".index.json")
    if ending.endswith(PICKLED):
        raise BackboneError(
            f"{subject} has only pickled weights ({clean(str(nearest))}), which are never read; "
            "convert them with save_pretrained(folder), which writes safetensors"
        )
    raise BackboneError(
        f"{subject} has only weights of another framework ({clean(str(nearest))}); load them there "
        "and convert them to PyTorch, then save_pretrained(folder), which writes safetensors"
    )


def has_pickled(files: Sequence[str]) -> bool:
    """Whether there are pickled weights beside the configuration."""
    names = (file.removesuffix(".index.json") for file in files if "/" not in file)
    return any(name.endswith(PICKLED) and name not in TRAINING for name in names)


def check_pointers(folder: Path, subject: str) -> None:
    """Raise BackboneError if a file is a pointer of Git LFS: cloned without its content."""
    for path in [*folder.glob("*.json"), *folder.glob(f"*{WEIGHTS}")]:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise BackboneError(
                    f"{subject}: its file {clean(path.name)} is a pointer of Git LFS, not the file "
                    "itself; run `git lfs pull` in that folder"
                )


def unreadable_folder(files: Sequence[str], subject: str) -> str | None:
    """Why a folder without a readable ``config.json`` is no checkpoint, where its files tell."""
    if "adapter_config.json" in files:
        return (
            f"{subject} is a PEFT adapter, not a whole network; load it with its base model, "
            "merge_and_unload() it and save_pretrained(folder)"
        )
    deeper = [str(PurePosixPath(file).parent) for file in files if file.endswith("/config.json")]
    if deeper and "config.json" not in files:
        return (
            f"{subject} has no config.json, its folder {clean(deeper[-1])} has one; give that "
            "folder"
        )
    if files and "config.json" not in files:
        return (
            f"{subject} has no config.json, which says what network its weights are of; give a "
            "checkpoint as save_pretrained(folder) writes it"
        )
    return None
