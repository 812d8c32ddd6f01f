"""Files of tensors of other tools, read without running what they pickle."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.foreign import classic_file, normalised, real_images

from wdistill.errors import DataError
from wdistill.evaluation.sets.tensors import load_tensor, read_tensor_set


def test_the_classic_family_has_several_sets_and_accuracies_beside_them(tmp_path: Path) -> None:
    path = classic_file(tmp_path / "res_DM_FashionMNIST_ConvNet_2ipc.pt")
    last, first = read_tensor_set(path), read_tensor_set(path, "0")
    assert last.images.shape == first.images.shape == (20, 1, 28, 28)
    assert not torch.equal(last.images, first.images)
    assert torch.equal(read_tensor_set(path, "1").images, last.images)
    assert last.labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    assert last.bytes == 20 * 28 * 28 * 4
    for which in ("2", "test", "-1"):
        with pytest.raises(DataError, match=r"holds 2 sets; give a number from 0 to 1"):
            read_tensor_set(path, which)


def pairs(folder: Path) -> dict[str, Path]:
    """The other forms, of the same images."""
    images, labels = real_images(2)
    named: dict[str, Any] = {
        "data.pt": [images, labels],
        "tuple.pt": (normalised(images), labels),
        "syn.pt": {"image_syn": images.float() / 255, "label_syn": labels},
        "images_best.pt": images,
        "labels_best.pt": labels,
    }
    for name, content in named.items():
        torch.save(content, folder / name)
    wide = images.permute(0, 2, 3, 1).numpy()
    np.savez(folder / "best.npz", images=wide, labels=np.eye(10)[labels.numpy()] - 0.1)
    np.savez(folder / "xy.npz", x=wide, y=labels.numpy())
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    "name", ["data.pt", "tuple.pt", "syn.pt", "images_best.pt", "best.npz", "xy.npz"]
)
def test_images_and_labels_in_every_known_form(name: str, tmp_path: Path) -> None:
    found = read_tensor_set(pairs(tmp_path)[name])
    images, labels = real_images(2)
    assert found.images.shape == (20, 1, 28, 28)
    classes = found.labels if found.labels.dim() == 1 else found.labels.argmax(1)
    assert torch.equal(classes, labels)
    if found.images.dtype == torch.uint8:
        assert torch.equal(found.images, images)


class Payload:
    """Would run if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_nothing_pickled_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = [torch.zeros(2, 3, 8, 8), Payload(mark)]
    torch.save(content, tmp_path / "zip.pt")
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(content))
    hidden = np.array([Payload(mark)], dtype=object)
    np.savez(tmp_path / "arrays.npz", images=hidden, labels=hidden)
    for path in sorted(tmp_path.glob("*.[pn][tp]*")):
        with pytest.raises(DataError) as caught:
            read_tensor_set(path)
        assert str(caught.value).isprintable()
        if path.name != "plain.pt":
            assert "pickled objects" in str(caught.value)
    assert not mark.exists()
    np.load(tmp_path / "arrays.npz", allow_pickle=True)["images"]
    assert mark.exists(), "the payload works where it is let"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": torch.zeros(3)}, "has weights; images are looked for as images"),
        ([torch.zeros(2, 3, 8, 8)] * 3, "holds a list of 3, not [images, labels]"),
        ([torch.zeros(2, 8, 8), torch.zeros(2)], "has images of shape 2 x 8 x 8"),
        ([torch.zeros(2, 5, 8, 8), torch.zeros(2)], "square ones with 1 or 3 channels"),
        ([torch.zeros(2, 3, 8, 9), torch.zeros(2)], "square ones with 1 or 3 channels"),
        ([torch.zeros(2, 3, 8, 8), torch.zeros(3)], "has 2 images and labels of shape 3"),
        ([torch.zeros(0, 3, 8, 8), torch.zeros(0)], "has 0 images"),
        ([torch.zeros(2, 3, 8, 8), "a"], "holds str where numbers are needed"),
        (torch.zeros(2, 3, 8, 8), "holds images alone"),
        (3, "holds int, not images and labels"),
    ],
)
def test_what_is_no_set_is_refused_in_a_line(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "set.pt")
    with pytest.raises(DataError) as caught:
        read_tensor_set(tmp_path / "set.pt")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["cut.pt", "cut.npz", "text.pt", "text.npz", "empty.pt"])
def test_damaged_files_are_refused_in_a_line(name: str, tmp_path: Path) -> None:
    path, (images, labels) = tmp_path / name, real_images(1)
    if name == "cut.pt":
        torch.save([images, labels], path)
    elif name == "cut.npz":
        np.savez(path, images=images.numpy(), labels=labels.numpy())
    whole = path.read_bytes()[:-40] if path.exists() else b"hello" * (not name.startswith("empty"))
    path.write_bytes(whole)
    with pytest.raises(DataError) as caught:
        read_tensor_set(path)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()


def test_one_tensor_from_each_kind_of_file(tmp_path: Path) -> None:
    values = torch.rand(3, 4)
    torch.save(values, tmp_path / "a.pt")
    np.save(tmp_path / "a.npy", values.numpy())
    np.savez(tmp_path / "a.npz", values.numpy())
    for suffix in ("pt", "npy", "npz"):
        assert torch.equal(load_tensor(tmp_path / f"a.{suffix}"), values)
