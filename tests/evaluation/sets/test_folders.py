"""Folders of other tools: one file of labels, soft labels beside images, numbered classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.foreign import classic_file, real_images
from helpers.runs import embedded_table
from PIL import Image

from wdistill.config import DataConfig
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError, OptionError
from wdistill.evaluation.sets.order import in_order_of
from wdistill.evaluation.sets.spaces import FileForm
from wdistill.evaluation.sets.subject import Subject, open_subject

NAMES = tuple(f"class {c}" for c in range(10))


def opened(path: Path) -> Subject:
    return open_subject(str(path), DataConfig())


def pictures(folder: Path, per_class: int = 2) -> list[tuple[str, int]]:
    """PNG files in mixed order, and the class of each."""
    folder.mkdir(parents=True)
    images, labels = real_images(per_class)
    rows = np.random.default_rng(0).permutation(len(labels))
    named = [(f"{place:03d}.png", int(labels[row])) for place, row in enumerate(rows)]
    for (name, _), row in zip(named, rows, strict=True):
        Image.fromarray(images[row, 0].numpy()).save(folder / name)
    return named


def shown(subject: Subject) -> dict[bytes, int]:
    """The class of each picture."""
    assert isinstance(subject.images, ImageSplit)
    found = [np.asarray(subject.images.image(row)) for row in range(len(subject.labels))]
    return {
        image[..., 0].tobytes(): int(label)
        for image, label in zip(found, subject.labels, strict=True)
    }


def wanted(per_class: int = 2) -> dict[bytes, int]:
    images, labels = real_images(per_class)
    return {image[0].numpy().tobytes(): int(c) for image, c in zip(images, labels, strict=True)}


@pytest.mark.parametrize("prefix", ["new{:03d}", "{:05d}"], ids=["SRe2L", "RDED"])
def test_numbered_folders_are_classes(prefix: str, tmp_path: Path) -> None:
    images, labels = real_images(2)
    for place, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        folder = tmp_path / "set" / prefix.format(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / f"class{label:03d}_id{place:03d}.jpg")
    subject = in_order_of(opened(tmp_path / "set"), NAMES, "real")
    assert subject.class_names == NAMES
    assert np.bincount(subject.labels).tolist() == [2] * 10


def test_a_column_of_class_ids(tmp_path: Path) -> None:
    table = embedded_table("train", 2).rename_columns(["image", "class_id"])
    pq.write_table(table, tmp_path / "set.parquet")
    subject = in_order_of(opened(tmp_path / "set.parquet"), NAMES, "real")
    assert np.bincount(subject.labels).tolist() == [2] * 10


FORMS = {
    "mapping.json": lambda named: json.dumps(dict(named)),
    "pairs.json": lambda named: json.dumps({"labels": [list(pair) for pair in named]}),
    "records.json": lambda named: json.dumps([{"file": n, "class_id": c} for n, c in named]),
    "header.csv": lambda named: "filename,label\n" + "".join(f"{n},{c}\n" for n, c in named),
    "plain.csv": lambda named: "".join(f"{n},{c}\n" for n, c in named),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inner", ["", "images"])
def test_one_file_of_labels_beside_the_images(form: str, inner: str, tmp_path: Path) -> None:
    named = pictures(tmp_path / "set" / inner)
    (tmp_path / "set" / form).write_text(FORMS[form](named))
    subject = opened(tmp_path / "set")
    assert not subject.named
    assert shown(in_order_of(subject, NAMES, "real")) == wanted()


def test_names_of_classes_are_matched_by_name(tmp_path: Path) -> None:
    named = pictures(tmp_path / "set")
    text = json.dumps({name: NAMES[label] for name, label in named})
    (tmp_path / "set" / "labels.json").write_text(text)
    subject = opened(tmp_path / "set")
    assert subject.named
    backwards = in_order_of(subject, NAMES[::-1], "real")
    assert shown(backwards) == {image: 9 - label for image, label in wanted().items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"000.png": 0, "absent.png": 1}', "names 'absent.png', which is no image in 'set'"),
        ('{"../outside.png": 0}', "which is no image in 'set'"),
        ('[["000.png", 0], ["000.png", 1]]', "names '000.png' more than once"),
        ('{"000.png": [0.5, 0.5]}', "soft labels in a file of tensors beside it"),
        ("{}", "names no image"),
        ("3", "is no list and no mapping"),
        ('[{"id": 3}]', "has a record of id; the file belongs in file_name"),
        ('{"000.png": 0', "cannot read 'labels.json'"),
    ],
)
def test_a_wrong_file_of_labels_is_refused_in_a_line(text: str, words: str, tmp_path: Path) -> None:
    pictures(tmp_path / "set")
    Image.new("L", (28, 28)).save(tmp_path / "outside.png")
    (tmp_path / "set" / "labels.json").write_text(text)
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "set")
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def by_class(folder: Path) -> list[Path]:
    images, labels = real_images(2)
    paths = []
    for place, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / f"{label:05d}" / f"{19 - place:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
        paths.append(path)
    return sorted(paths)


@pytest.mark.parametrize("suffix", [".pt", ".npy"])
def test_soft_labels_beside_images_are_in_the_order_of_their_paths(
    suffix: str, tmp_path: Path
) -> None:
    paths = by_class(tmp_path / "set")
    soft = np.random.default_rng(0).dirichlet(np.ones(10), len(paths)).astype(np.float32)
    file = tmp_path / "set" / f"soft_labels{suffix}"
    if suffix == ".pt":
        torch.save(torch.from_numpy(soft), file)
    else:
        np.save(file, soft)
    subject = opened(tmp_path / "set")
    assert isinstance(subject.images, ImageSplit)
    assert subject.soft_labels is not None
    for row in range(len(paths)):
        cell = subject.images.dataset[int(subject.images.rows[row])]["image"]
        place = [str(path) for path in paths].index(str(Path(cell["path"])))
        assert np.allclose(subject.soft_labels[row], soft[place])
    agree = float((soft.argmax(1) == np.repeat(np.arange(10), 2)).mean())
    assert f"in {100 * agree:.0f} % of the images" in subject.notes[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.rand(19, 10).softmax(1), "of shape 19 x 10, and there are 20 images of 10 classes"),
        (torch.rand(20, 9).softmax(1), "of shape 20 x 9"),
        (torch.randn(20, 10), "no probabilities"),
    ],
)
def test_other_soft_labels_are_refused(values: torch.Tensor, words: str, tmp_path: Path) -> None:
    by_class(tmp_path / "set")
    torch.save(values, tmp_path / "set" / "soft_labels.pt")
    with pytest.raises(DataError, match=words):
        opened(tmp_path / "set")


def test_a_file_of_tensors_is_a_set_with_numbered_classes(tmp_path: Path) -> None:
    path = classic_file(tmp_path / "res_DM.pt")
    form = FileForm(dataset="fashion_mnist")
    subject = in_order_of(open_subject(str(path), DataConfig(), form), NAMES, "real")
    assert (subject.kind, subject.id, subject.tiles) == ("file", "res_DM.pt", 1)
    assert np.bincount(subject.labels).tolist() == [2] * 10
    assert subject.stored_bytes == 20 * 28 * 28 * 4
    assert isinstance(subject.images, np.ndarray)
    assert subject.images.shape == (20, 28, 28, 3)


def test_what_is_said_of_tensors_is_refused_of_other_sets(tmp_path: Path) -> None:
    by_class(tmp_path / "set")
    with pytest.raises(OptionError, match="`space` and `tiles` are for files of tensors"):
        open_subject(str(tmp_path / "set"), DataConfig(), FileForm(tiles=2))


def test_metadata_files_are_read_as_before(tmp_path: Path) -> None:
    named = pictures(tmp_path / "set")
    rows = "".join(f"{name},{label}\n" for name, label in named)
    (tmp_path / "set" / "metadata.csv").write_text("file_name,label\n" + rows)
    assert shown(in_order_of(opened(tmp_path / "set"), NAMES, "real")) == wanted()
