"""What a finished run holds, for Python and notebooks."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wdistill.artifact.distilled_set import read_report
from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import Manifest, read_manifest
from wdistill.artifact.report import Report
from wdistill.artifact.torch_dataset import DistilledImages, load
from wdistill.core.text import human_bytes

PREVIEW = "preview.png"


@dataclass(frozen=True)
class DistilledRun:
    """A finished run. A notebook displays its preview and the accuracy of its students."""

    folder: Path

    @property
    def set_folder(self) -> Path:
        """The folder of the published set: parquet files, wdistill.json, report.json, a picture."""
        return one_set(self.folder)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the set: source, settings, teacher and environment."""
        return read_manifest(self.set_folder)

    @property
    def report(self) -> Report | None:
        """The evaluation of the set; None if no students were trained."""
        return read_report(self.set_folder)

    @property
    def preview_file(self) -> Path:
        return self.set_folder / PREVIEW

    @property
    def preview(self) -> Image.Image:
        """The distilled images, in rows by class."""
        with Image.open(self.preview_file) as picture:
            return picture.copy()

    def images(self, *, temperature: float | None = None) -> DistilledImages:
        """Load the set for training, see :func:`wdistill.load`."""
        return load(self.set_folder, temperature=temperature)

    def __str__(self) -> str:
        report = self.report
        table = "no students were trained" if report is None else str(report)
        return f"{self.manifest.images} distilled images in {self.set_folder}\n{table}\n{self.size}"

    @property
    def size(self) -> str:
        """Format and size of the set, in words."""
        manifest = self.manifest
        files = human_bytes(manifest.bytes.parquet + manifest.bytes.label_views)
        return f"{manifest.coding}, {files} of parquet, {manifest.bits_per_class:,} bits per class"

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.preview_file.read_bytes()).decode()
        return (
            f"<pre>{html.escape(str(self))}</pre>"
            f'<img alt="distilled images" src="data:image/png;base64,{picture}">'
        )
