"""A dataset of the Hub as a stream: of every image only as much is kept as a network sees.

The stages go through the data by class and more than once, so they need a copy at hand. It holds
the images upright and scaled to the size that the backbone works at, without loss, or the original
file where that is smaller; what a network sees of them is the same. Neither the dataset's files nor
the copy of them that `datasets` prepares are written.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from filelock import FileLock
from huggingface_hub import constants
from PIL import Image

from wdistill.config import DataConfig
from wdistill.core.files import atomic_write, read_json, write_json
from wdistill.core.log import Progress
from wdistill.core.settings import stable_hash
from wdistill.core.text import human_bytes
from wdistill.data.columns import candidates, may_be_label
from wdistill.data.content.decoding import decode, encoded_bytes, to_rgb
from wdistill.errors import RunFolderError

PIECE = 512  # rows that are written at once, and at most lost when a run is killed
_STATE = b"wdistill.stream"  # where the stream stood after a piece
_DONE = "done.json"
SIZE_SAMPLE = 64


@dataclass(frozen=True)
class Scaling:
    """scale: an upright RGB image to what is kept of it; name: what the result depends on."""

    name: str
    scale: Callable[[Image.Image], Image.Image]


class Stream:
    """Reads splits of one dataset, at one commit, each once: see :meth:`__call__`.

    scaling: by the median of the longer side of the first images, in pixels; sizes: rows of each
    split where the Hub tells.
    """

    def __init__(
        self, dataset: str, revision: str, config: DataConfig, sizes: Mapping[str, int],
        scaling: Callable[[int], Scaling], quiet: bool,
    ) -> None:  # fmt: skip
        self.dataset, self.revision, self.config = dataset, revision, config
        self.sizes, self.scaling, self.quiet = sizes, scaling, quiet
        self._native: int | None = None
        key = stable_hash([dataset, revision, config.config_name, config.image_column])
        self.folder = Path(constants.HF_HOME) / "wdistill" / "streamed" / key[:32]

    def __call__(self, split: str) -> Any:
        """The split as a ``datasets.Dataset`` of scaled images and of every column that may hold
        labels or groups. What an earlier start has read is not read again.
        """
        with self._held():
            if self._native is None:
                self._native = self._size_of(split)
            scaling = self.scaling(self._native)
            folder = self.folder / f"{stable_hash([split, scaling.name])[:32]}"
            if not _finished(folder):
                self._read(split, scaling, folder)
            count = read_json(folder / _DONE)["pieces"]
        parts = [datasets.Dataset.from_file(str(_path(folder, index))) for index in range(count)]
        return datasets.concatenate_datasets(parts)

    def native_size(self) -> int:
        """Of the images of the first split that was read, in pixels."""
        assert self._native is not None  # noqa: S101 (a split is read before)
        return self._native

    def note(self) -> str:
        """What was kept, once the splits were read."""
        size = sum(path.stat().st_size for path in self.folder.rglob("*.arrow"))
        kept = f"{human_bytes(size)} in {str(self.folder)!r}"
        return f"Read as a stream; what the backbone sees of the images is kept: {kept}."

    def _held(self) -> FileLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return FileLock(self.folder / ".lock")
        except OSError as error:
            raise RunFolderError(f"cannot write {str(self.folder)!r}: {error.strerror}") from error

    def _open(self, split: str) -> tuple[Any, str]:
        """A ``datasets.IterableDataset`` with undecoded images, and the name of their column."""
        rows = datasets.load_dataset(
            self.dataset, name=self.config.config_name, revision=self.revision, split=split,
            streaming=True,
        )  # fmt: skip
        if rows.features is None:
            rows = rows.cast(datasets.Dataset.from_list(list(rows.take(1))).features)
        image, _ = candidates(rows.features, self.config)
        labels = [name for name, feature in rows.features.items() if may_be_label(feature)]
        rows = rows.select_columns([image, *labels])
        return rows.cast_column(image, datasets.Image(decode=False)), image

    def _size_of(self, split: str) -> int:
        path = self.folder / f"{stable_hash(split)[:32]}.json"
        if not path.exists():
            rows, image = self._open(split)
            sides = []
            for row in rows.take(SIZE_SAMPLE):
                with suppress(Exception):  # a broken image is told when it is used
                    sides.append(max(_decoded(row[image]).size))
            write_json(path, {"native": int(np.median(sides or [0]))})
        return int(read_json(path)["native"])

    def _read(self, split: str, scaling: Scaling, folder: Path) -> None:
        """Write the pieces that are missing, and then that all are there."""
        rows, image = self._open(split)
        features = datasets.Features({**rows.features, image: datasets.Image()})
        count, state = _begun(folder)
        if state is not None:
            rows.load_state_dict(state)
        source = iter(rows)
        bar = Progress(
            f"streaming {split}", self.sizes.get(split), "img", count * PIECE, self.quiet
        )
        with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
            while True:
                piece = list(islice(source, PIECE))
                if count and not piece:
                    break
                cells = list(pool.map(partial(_kept, scaling), [row[image] for row in piece]))
                columns = {name: [row[name] for row in piece] for name in features}
                _write(_path(folder, count), columns | {image: cells}, features, rows.state_dict())
                count += 1
                bar.update(len(piece))
        write_json(folder / _DONE, {"pieces": count})


def _kept(scaling: Scaling, cell: Any) -> dict[str, Any] | None:
    """The scaled image as WebP, or the original file if that is smaller or cannot be decoded."""
    if isinstance(cell, dict):
        missing = cell.get("bytes") is None and cell.get("path") is None
        cell = None if missing else cell | {"bytes": encoded_bytes(cell)}
    if cell is None:
        return None
    file = io.BytesIO()
    with suppress(Exception):  # PIL raises many kinds on damaged files, which are told by row later
        scaling.scale(_decoded(cell)).save(file, "WEBP", lossless=True, quality=0)
    original = cell if isinstance(cell, dict) else {"bytes": b"", "path": None}
    files = [content for content in (file.getvalue(), original["bytes"]) if content]
    return {"bytes": min(files, key=len, default=b""), "path": original["path"]}


def _decoded(cell: Any) -> Image.Image:
    """`datasets` streams the files of tables, but decoded images of folders."""
    return to_rgb(cell) if isinstance(cell, Image.Image) else decode(encoded_bytes(cell))


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.arrow"


def _write(path: Path, columns: dict[str, list[Any]], features: Any, state: Any) -> None:
    """A file that ``Dataset.from_file`` maps, with the place in the stream behind its rows."""
    table = datasets.Dataset.from_dict(columns, features=features).data.table
    known = table.schema.metadata | {_STATE: json.dumps(state).encode()}
    table = table.replace_schema_metadata(known)
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    atomic_write(path, file.getvalue())


def _state(path: Path) -> Any:
    """Where the stream stood after a piece; None if it is not there or damaged."""
    try:
        with pa.memory_map(str(path)) as file:
            return json.loads(pa.ipc.open_stream(file).read_all().schema.metadata[_STATE])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _begun(folder: Path) -> tuple[int, Any]:
    """How many pieces from the first on are there, and where the stream stood after them."""
    count, state = 0, None
    while (found := _state(_path(folder, count))) is not None:
        count, state = count + 1, found
    return count, state


def _finished(folder: Path) -> bool:
    done = folder / _DONE
    return done.exists() and _begun(folder)[0] >= read_json(done)["pieces"]
