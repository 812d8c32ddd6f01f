"""Write the full Fashion-MNIST (60,000 train and 10,000 test images) as two parquet files.

python -m tests.benchmarks.full_fashion_mnist /usr/share/datasets/fashion-mnist fashion-mnist
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from wdistill.data.embedded.make_subset import PARTS, read_idx, write_split


def main(source: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for split, (prefix, _) in PARTS.items():
        images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")
        write_split(images, labels, np.arange(len(labels)), output / f"{split}.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
