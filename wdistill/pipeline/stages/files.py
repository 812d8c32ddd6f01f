"""The distilled images as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wdistill.artifact.parquet import Pictures
from wdistill.core.files import on_disk, remove
from wdistill.core.settings import stable_hash
from wdistill.core.units import Advance, Stage, StageOutput, Tensors, Unit
from wdistill.data.content.coding import Coding, coder_version, decode_files, is_grey
from wdistill.pipeline.run_folder import Run
from wdistill.synthesis.optimise import DistilledUnit


@dataclass(frozen=True, eq=False)
class UnitFiles:
    """The files of a unit's M images.

    Attributes:
        content: uint8, one file after the other.
        sizes: (M,) int64, bytes of each.
    """

    content: Tensor
    sizes: Tensor

    def __iter__(self) -> Iterator[bytes]:
        for file in self.content.split(self.sizes.tolist()):
            yield file.numpy().tobytes()

    def to_tensors(self) -> Tensors:
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> UnitFiles:
        return cls(**tensors)


@dataclass(frozen=True, eq=False)
class CodedImages:
    """The files of all images, and what a reader gets of them.

    Attributes:
        images: (N, H, W, 3) uint8, on the disk: fifty images of each ImageNet class are 7.5 GB.
        grey: Whether they are read as grey images.
        key: A hash of everything that they depend on.
    """

    files: Pictures
    images: NDArray[np.uint8]
    grey: bool
    key: str

    @property
    def pixels(self) -> Tensor:
        """(N, 3, H, W) uint8."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2)


def code_images(run: Run, images: StageOutput[DistilledUnit], coding: Coding) -> CodedImages:
    """Put all images into files, class by class. Each process codes some units, and decodes all."""
    count, side = len(run.labels), int(images.units[0].pixels.shape[-1])
    grey = all(is_grey(_rows(unit)) for unit in images.units)
    units = files_stage(run, images, coding, grey).units
    files = Pictures((file for unit in units for file in unit), run.work)
    pixels = (image[None] for image in decode_files((files[row] for row in range(count)), grey))
    decoded = on_disk(pixels, (count, side, side, 3), np.uint8, run.work)
    return CodedImages(files, decoded, grey, stable_hash([images.key, *coding.key]))


def files_stage(
    run: Run, images: StageOutput[DistilledUnit], coding: Coding, grey: bool
) -> StageOutput[UnitFiles]:
    """The files of each unit's images; ``grey``: whether no image of the set has any colour."""
    version = coder_version(coding.format)

    def compute(unit: Unit, advance: Advance) -> UnitFiles:
        files = list(coding.files(_rows(images.units[unit.index]), grey))
        advance(len(unit.classes))
        content = np.frombuffer(b"".join(files), np.uint8).copy()
        return UnitFiles(torch.from_numpy(content), torch.tensor([len(file) for file in files]))

    key = stable_hash([images.key, str(coding), version, grey, "files"])
    return run.compute(Stage(_name(coding), key, UnitFiles), compute)


def remove_other_files(run: Run, codings: Iterable[Coding]) -> None:
    """Remove files of images in codings other than these. Coding is soon done again."""
    names = {_name(coding) for coding in codings}
    every = run.work.glob("files-*.safetensors")
    remove(*(path for path in every if path.name.rsplit("-", 1)[0] not in names))


def _name(coding: Coding) -> str:
    """Of the stage."""
    return f"files-{coding.format}{'' if coding.is_lossless else coding.quality}"


def _rows(unit: DistilledUnit) -> NDArray[np.uint8]:
    """(M, H, W, 3), as they are before they are coded."""
    return unit.pixels.permute(0, 2, 3, 1).contiguous().numpy()
