"""Files that are complete or absent: atomic writes, JSON, checksummed tensors, arrays on disk."""

from __future__ import annotations

import errno
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import safe_open

from wdistill.errors import RunFolderError

if TYPE_CHECKING:  # torch is imported only where it is used: a push reads JSON only
    import torch

_MAX_JSON_BYTES = 64 * 2**20


def template_folders() -> list[Path]:
    """Folders to search for templates: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    return [package / "cards", package.parent / "cards"]


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either its old content or all of the new one."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; it is renamed to ``path`` when complete, and removed on failure."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            _raise_write_error(path, error)
        raise


def on_disk(
    parts: Iterable[NDArray[Any]],
    shape: tuple[int, ...] | None,
    dtype: type[np.generic],
    folder: Path,
) -> NDArray[Any]:
    """Concatenate ``parts`` into one array, memory-mapped from a nameless file in ``folder``.

    The operating system keeps only as much of it in memory as there is room for. Changes to the
    array are not written to the file.

    Args:
        parts: The parts in order.
        shape: Shape of the whole array; None for one dimension.
        dtype: Type of the whole array.
        folder: Folder of the file; created if it does not exist.

    Raises:
        RunFolderError: The file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype).data)
            file.flush()
            return np.memmap(file, dtype, mode="c", shape=shape)
    except OSError as error:
        _raise_write_error(folder, error)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating-system error into a RunFolderError of one line that names ``path``."""
    try:
        yield
    except OSError as error:
        _raise_write_error(path, error)


def _raise_write_error(path: Path, error: OSError) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "no space left on the disk; free some space and run the same command again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "no permission; choose another `output` or change the folder's permissions"
    else:
        advice = error.strerror or type(error).__name__
    raise RunFolderError(f"cannot write '{path}': {advice}") from error


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn any error of a parser that reads ``path`` into a RunFolderError of one line."""
    try:
        yield
    except RunFolderError:
        raise
    except FileNotFoundError:
        raise RunFolderError(f"'{path}' is missing; run the same command again") from None
    except PermissionError:
        raise RunFolderError(f"'{path}' cannot be read: no permission") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        advice = "delete it and run the same command again"
        raise RunFolderError(f"'{path}' is damaged ({reason}); {advice}") from error


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON number")

    with guarded(path):
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"larger than {_MAX_JSON_BYTES} bytes")
        return json.loads(path.read_bytes(), parse_constant=refuse)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write safetensors with a checksum in the metadata, because the format has none."""
    from safetensors.torch import save as save_tensors  # noqa: PLC0415 (brings torch)

    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    atomic_write(path, save_tensors(plain, {**metadata, "sha256": _checksum(plain, metadata)}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with guarded(path), safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.pop("sha256", None) != _checksum(tensors, metadata):
            raise ValueError("its checksum does not fit its content")
    return tensors, metadata


def key_of(path: Path) -> str | None:
    """The key in the metadata of a file of tensors, which are not read."""
    with guarded(path), safe_open(path, framework="pt") as file:
        key: str | None = (file.metadata() or {}).get("key")
    return key


def has_tensors(path: Path, key: str) -> bool:
    """Whether ``path`` is a sound file of tensors whose metadata have this ``key``."""
    try:
        return read_tensors(path)[1].get("key") == key
    except (RunFolderError, FileNotFoundError):
        return False


def _checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    import torch  # noqa: PLC0415

    digest = sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def remove(*paths: Path) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _raise_write_error(path, error)


IDENTITY = "run.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for one run. Raises RunFolderError if another run has locked it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunFolderError(
            f"another run is working in {str(folder)!r}; wait for it, or choose another `output`"
        ) from error
    except OSError as error:
        raise RunFolderError(
            f"cannot write to {str(folder)!r} ({error.strerror}); choose another `output`"
        ) from error
    try:
        yield
    finally:
        lock.release()
        if not (folder / IDENTITY).exists():  # refused: leave nothing behind
            (folder / ".lock").unlink(missing_ok=True)
