"""A dataset of a thousand classes that can be learnt: three photographs of Fashion-MNIST, one in each
channel of colour. Its classes are all (red, green, blue) triples of the ten, "Bag, Coat, Sandal".

    python -m tests.benchmarks.thousand_classes FASHION-MNIST-FOLDER OUTPUT-FOLDER

A hundred training and ten test images a class, drawn with seed 0 from the 60,000 and 10,000.
"""  # noqa: E501

from __future__ import annotations

import io
import itertools
from pathlib import Path

import click
import datasets
import numpy as np
from PIL import Image
from tqdm import tqdm

PER_CLASS = {"train": 100, "test": 10}


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=click.Path(path_type=Path))
def main(source: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for split, count in PER_CLASS.items():
        known = datasets.Dataset.from_parquet(str(source / f"{split}.parquet"))
        grey = np.stack([np.asarray(image.convert("L")) for image in known["image"]])
        labels, names = np.array(known["label"]), known.features["label"].names
        triples = list(itertools.product(range(len(names)), repeat=3))
        rows = {"image": [], "label": []}  # type: ignore[var-annotated]
        for label, triple in enumerate(tqdm(triples, desc=split)):
            members = [draw.choice(np.flatnonzero(labels == kind), count) for kind in triple]
            for row in zip(*members, strict=True):
                file = io.BytesIO()
                Image.fromarray(grey[list(row)].transpose(1, 2, 0).copy()).save(file, "PNG")
                rows["image"].append({"bytes": file.getvalue(), "path": None})
                rows["label"].append(label)
        classes = [", ".join(names[kind] for kind in triple) for triple in triples]
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)}
        )
        datasets.Dataset.from_dict(rows, features=features).to_parquet(output / f"{split}.parquet")


if __name__ == "__main__":
    main()
