"""Folders of images as people have them: every image is used, or told, or the folder is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.datasets_on_disk import load, message
from helpers.field import classes, per_class, tarred, tiny, write, zipped

pytestmark = pytest.mark.usefixtures("own_cache")

SHAPE = "a folder of images has one folder for each class, with all of its images directly in it"


# --- names that mean nothing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("bus", "diesel_train", "steam_train", "tram"),
        ("test tube", "beaker"),
        ("dev-board", "val_disere", "eval"[:2]),
        ("train", "bus", "boat"),
        ("latest", "trainer", "contest"),
    ],
)
def test_words_of_splits_in_names_of_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = load(write(tmp_path / "d", classes(names)))
    assert data.eval_is_holdout
    assert per_class(data) == dict.fromkeys(sorted(names), 4)


def test_words_of_splits_in_names_of_files(tmp_path: Path) -> None:
    names = ["train 1", "test_2", "val.3", "IMG_4", "my-dev-5"]
    paths = [f"{folder}/{name}.png" for folder in ("bus", "rail") for name in names]
    data = load(write(tmp_path / "d", paths))
    assert per_class(data) == {"bus": 5, "rail": 5}


@pytest.mark.parametrize(
    "name",
    ["photos [v2]", "a*b", "what?", "{x}", "train", "test data", "Größe 📷", "a'b\"c", "%20",
     "a::b", "d.zip", "#1", "~x", "-x"],
)  # fmt: skip
def test_any_name_of_a_folder(tmp_path: Path, name: str) -> None:
    paths = classes(("train/red", "train/blue", "test/red", "test/blue"))
    data = load(write(tmp_path / name, paths))
    assert per_class(data, data.train) == per_class(data, data.eval) == {"blue": 4, "red": 4}
    assert data.train.image(0).size == (6, 5)


def test_any_names_of_classes_and_files(tmp_path: Path) -> None:
    names = ["no", "007", "1e3", "null", "[a]", "*", "a b", "é", "🙂", "-1", "#", "__x__", "a::b"]
    paths = [f"{name}/{index}{name}.PNG" for name in names for index in range(2)]
    data = load(write(tmp_path / "d", paths))
    assert data.class_names == tuple(sorted(names))
    assert set(per_class(data).values()) == {2}
    assert {data.train.image(row).size for row in range(len(data.train))} == {(6, 5)}


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "evaluation", "names"),
    [
        ("train", "test", ("train", "test")),
        ("Train", "Val", ("train", "validation")),
        ("training", "testing", ("train", "test")),
        ("train", "dev", ("train", "validation")),
        ("train", "eval", ("train", "test")),
        ("TRAIN", "evaluation", ("train", "test")),
        ("trainval", "test", ("trainval", "test")),
        ("train_images", "test_images", ("train", "test")),
        ("training_set/training_set", "test_set/test_set", ("train", "test")),
        ("set/data/train", "set/data/valid", ("train", "validation")),
    ],
)
def test_splits_under_any_usual_name(
    tmp_path: Path, train: str, evaluation: str, names: tuple[str, str]
) -> None:
    paths = classes((f"{train}/red", f"{train}/blue", f"{evaluation}/red", f"{evaluation}/blue"))
    data = load(write(tmp_path / "d", paths))
    assert (data.train_split, data.eval_split) == names
    assert per_class(data, data.train) == per_class(data, data.eval) == {"blue": 4, "red": 4}


def test_splits_below_the_classes(tmp_path: Path) -> None:
    paths = classes(("cat/train", "cat/test", "dog/train", "dog/test"))
    data = load(write(tmp_path / "d", paths))
    assert per_class(data, data.train) == per_class(data, data.eval) == {"cat": 4, "dog": 4}


def test_a_training_split_that_holds_validation_is_not_validated_on_it(tmp_path: Path) -> None:
    folders = [f"{s}/{c}" for s in ("trainval", "val", "test") for c in ("red", "blue")]
    data = load(write(tmp_path / "d", classes(folders)))
    assert (data.train_split, data.eval_split) == ("trainval", "test")
    assert "Splits that are not used: 'validation' (8 images)." in data.notes


def test_other_splits_are_told_with_their_number(tmp_path: Path) -> None:
    folders = [f"{s}/{c}" for s in ("train", "val", "test", "extra") for c in ("red", "blue")]
    data = load(write(tmp_path / "d", classes(folders)))
    assert data.eval_split == "validation"
    assert "Splits that are not used: 'extra' (8 images), 'test' (8 images)." in data.notes


@pytest.mark.parametrize("flat", ["test/{}.png", "test/unknown/{}.png", "test/images/{}.png"])
def test_a_test_folder_without_classes_is_told(tmp_path: Path, flat: str) -> None:
    tests = [flat.format(index) for index in range(6)]
    data = load(write(tmp_path / "d", classes(("train/cat", "train/dog")) + tests))
    assert per_class(data) == {"cat": 4, "dog": 4}
    assert "Split 'test' (6 images) has no labels and is not used." in data.notes


def test_a_flat_test_folder_beside_class_folders_is_no_class(tmp_path: Path) -> None:
    data = load(write(tmp_path / "d", classes(("cat", "dog", "test"))))
    assert per_class(data) == {"cat": 4, "dog": 4}
    assert "Split 'test' (4 images) has no labels and is not used." in data.notes


# --- depths --------------------------------------------------------------------------------------


def test_images_in_a_folder_of_each_class(tmp_path: Path) -> None:
    """Tiny ImageNet: train/CLASS/images/CLASS_0.JPEG, val/images/val_0.JPEG."""
    ids = ("n01443537", "n01629819")
    paths = [f"train/{c}/images/{c}_{i}.JPEG" for c in ids for i in range(4)]
    paths += [f"val/images/val_{i}.JPEG" for i in range(4)]
    root = Path(write(tmp_path / "d", paths))
    for name in ids:
        (root / "train" / name / f"{name}_boxes.txt").write_text("")
    data = load(str(root))
    assert per_class(data) == dict.fromkeys(ids, 4)
    assert "Split 'validation' (4 images) has no labels and is not used." in data.notes
    assert "Left out 2 files (2 .txt)." in data.notes


def test_two_levels_that_could_both_be_the_class_are_asked_for(tmp_path: Path) -> None:
    folders = [f"{animal}/{age}" for animal in ("cats", "dogs") for age in ("old", "young")]
    root = write(tmp_path / "d", classes(folders))
    text = message(root)
    assert text == (
        "folders of images lie 2 deep, such as 'cats/old', and each level could be the class; "
        "choose one with `data.label_column`: folder_1 (cats, dogs); folder_2 (old, young)"
    )
    assert per_class(load(root, label_column="folder_1")) == {"cats": 8, "dogs": 8}
    data = load(root, label_column="folder_2", group_column="folder_1")
    assert per_class(data) == {"old": 8, "young": 8}
    assert data.train.groups is not None
    assert set(data.train.groups) == {0, 1}


def test_inner_folders_of_different_names_are_the_classes_and_told(tmp_path: Path) -> None:
    folders = ("animal/cat", "animal/dog", "vehicle/bus")
    data = load(write(tmp_path / "d", classes(folders)))
    assert per_class(data) == {"bus": 4, "cat": 4, "dog": 4}
    assert "Folders lie 2 deep, such as 'animal/cat'; the innermost are the classes." in data.notes
    outer = load(str(tmp_path / "d"), label_column="folder_1")
    assert per_class(outer) == {"animal": 8, "vehicle": 4}


@pytest.mark.parametrize("stray", ["cover.png", "cat/more/x.png", "cat/a/b/x.png"])
def test_images_at_different_depths_are_refused(tmp_path: Path, stray: str) -> None:
    root = write(tmp_path / "d", [*classes(("cat", "dog")), stray])
    text = message(root)
    assert text.startswith("images of split 'train' lie at different depths, such as ")
    assert stray in text
    assert SHAPE in text


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    root = Path(write(tmp_path / "d", [f"{index}.png" for index in range(4)]))
    (root / "labels.csv").write_text("id,breed\n0,cat\n")
    assert message(str(root)) == (
        "the 4 images in 'd' lie in no folders of classes (beside them: 1 file (1 .csv)); "
        f"{SHAPE}; or their classes stand in a metadata.csv with columns file_name and label"
    )


def test_images_in_one_folder_are_refused(tmp_path: Path) -> None:
    text = message(write(tmp_path / "d", [f"images/{index}.png" for index in range(4)]))
    assert text.startswith("the 4 images in 'd' lie in one folder, 'images'; a folder of")


def test_images_beside_the_folders_of_splits_are_refused(tmp_path: Path) -> None:
    paths = [*classes(("train/cat", "train/dog", "test/cat")), "cover.png"]
    assert message(write(tmp_path / "d", paths)).startswith(
        "images lie in the folder itself, beside the folders of the splits; "
    )


# --- other files ---------------------------------------------------------------------------------


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    root = Path(write(tmp_path / "d", classes(("cat", "dog"))))
    for name in ("cat/x.heic", "cat/y.heic", "dog/0.json", "dog/1.json", "dog/2.json", "dog/noend"):
        (root / name).write_bytes(b"{}")
    for name in (".DS_Store", "Thumbs.db", "README.md", "LICENSE", "dog/.hidden.png"):
        (root / name).write_bytes(tiny(99))
    data = load(str(root))
    assert per_class(data) == {"cat": 4, "dog": 4}
    assert (
        "Left out 7 files (3 .json, 2 .heic, 1 without a suffix, 1 hidden)."
        in [note.replace("1 hidden, 1 without a suffix", "1 without a suffix, 1 hidden")
            for note in data.notes]
    )  # fmt: skip


def test_a_folder_of_a_kind_that_cannot_be_read_is_refused_by_it(tmp_path: Path) -> None:
    for name in ("cat/x.heic", "dog/y.heic"):
        (tmp_path / "d" / name).parent.mkdir(parents=True)
        (tmp_path / "d" / name).write_bytes(b"\0\0\0\x18ftypheic")
    assert "found 2 files (2 .heic); give" in message(str(tmp_path / "d"))


def test_a_text_that_is_called_jpg_is_named(tmp_path: Path) -> None:
    root = Path(write(tmp_path / "d", classes(("cat", "dog"))))
    (root / "cat" / "0.jpg").write_text("<html>404</html>")
    text = message(str(root))
    assert "cat/0.jpg): its content is no image of a kind that can be read" in text
    assert "BytesIO" not in text
    data = load(str(root), skip_broken=True)
    assert data.broken == 1


def test_empty_folders_are_told(tmp_path: Path) -> None:
    root = Path(write(tmp_path / "d", classes(("cat", "dog"))))
    (root / "bird").mkdir()
    assert "Folders with nothing in them: 1, 'bird'." in load(str(root)).notes


def test_what_is_no_file_and_names_that_are_no_text(tmp_path: Path) -> None:
    root = Path(write(tmp_path / "d", classes(("cat", "dog"))))
    os.mkfifo(root / "cat" / "pipe.png")
    data = load(str(root))
    assert per_class(data) == {"cat": 4, "dog": 4}
    assert "Left out 1 file (1 pipes or devices)." in data.notes
    (root / "cat" / os.fsdecode(b"\xff.png")).write_bytes(tiny(90))
    assert "the name '\\udcff.png' in " in message(str(root))


# --- links and archives --------------------------------------------------------------------------


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    store = Path(write(tmp_path / "store", classes(("a", "b"))))
    for name, place in (("red", "a"), ("blue", "b")):
        (tmp_path / "d" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / "train" / name).symlink_to(store / place)
    (store / "a" / "up").symlink_to(tmp_path / "d" / "train")
    (store / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (store / "b" / "more.png").symlink_to(store.parent / "one.png")
    (tmp_path / "one.png").write_bytes(tiny(50))
    data = load(str(tmp_path / "d"))
    assert per_class(data) == {"blue": 5, "red": 4}
    assert [note for note in data.notes if "circle" in note and "lead nowhere" in note]


PATHS = classes(("red", "blue"))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("train.tar.gz", "w:gz"), ("d.tar", "w"), ("x.tgz", "w:gz"), ("train-0000.tar", "w"),
     ("a.tar.xz", "w:xz"), ("photos.zip", ""), ("train.ZIP", "")],
)  # fmt: skip
@pytest.mark.parametrize("inside", [True, False])
def test_archives_of_class_folders(tmp_path: Path, name: str, mode: str, inside: bool) -> None:
    file = tmp_path / "d" / name
    if mode:
        tarred(file, {path: tiny(number) for number, path in enumerate(PATHS)}, mode)
    else:
        zipped(file, PATHS)
    data = load(str(file.parent if inside else file))
    assert per_class(data) == {"blue": 4, "red": 4}
    assert data.train.image(0).size == (6, 5)


def test_archives_are_folders_of_splits_of_classes_or_shards(tmp_path: Path) -> None:
    for first, split in ((0, "train"), (50, "test")):
        zipped(tmp_path / "a" / f"{split}.zip", [f"{split}/{path}" for path in PATHS], first)
    data = load(str(tmp_path / "a"))
    assert per_class(data, data.train) == per_class(data, data.eval) == {"blue": 4, "red": 4}
    for first, name in ((0, "cat"), (50, "dog")):
        zipped(tmp_path / "b" / f"{name}.zip", ["0.png", "1.png"], first)
    assert per_class(load(str(tmp_path / "b"))) == {"cat": 2, "dog": 2}
    for shard in range(2):
        files = {f"{c}/{shard}{i}.png": tiny(10 * shard + i) for i, c in enumerate(("cat", "dog"))}
        tarred(tmp_path / "c" / f"train-{shard:05d}.tar", files)
    assert per_class(load(str(tmp_path / "c"))) == {"cat": 2, "dog": 2}


def test_an_archive_that_changed_is_read_again(tmp_path: Path) -> None:
    zipped(tmp_path / "d.zip", PATHS)
    assert per_class(load(str(tmp_path / "d.zip"))) == {"blue": 4, "red": 4}
    zipped(tmp_path / "d.zip", classes(("red", "green")))
    assert per_class(load(str(tmp_path / "d.zip"))) == {"green": 4, "red": 4}


@pytest.mark.parametrize("name", ["d.zip", "d.tar", "d.tar.gz"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "d", PATHS)
    (tmp_path / "d" / name).write_bytes(b"this is no archive")
    assert f"{name}': " in message(str(tmp_path / "d"))


def test_an_archive_that_python_cannot_read_is_named(tmp_path: Path) -> None:
    write(tmp_path / "d", PATHS)
    (tmp_path / "d" / "more.7z").write_bytes(b"7z")
    assert "more.7z' is an archive that cannot be read; unpack it" in message(str(tmp_path / "d"))


@pytest.mark.parametrize("about", ["cls", "txt", "json"])
def test_webdataset(tmp_path: Path, about: str) -> None:
    files = {}
    for row in range(12):
        content = {"cls": b"%d", "txt": b"class %d", "json": b'{"label": %d}'}[about] % (row % 3)
        files |= {f"{row:04d}.png": tiny(row), f"{row:04d}.{about}": content}
    tarred(tmp_path / "d" / "train-0000.tar", files)
    data = load(str(tmp_path / "d"))
    assert sorted(per_class(data).values()) == [4, 4, 4]
    assert data.train.image(0).size == (6, 5)


# --- metadata ------------------------------------------------------------------------------------


def metadata(root: Path, paths: list[str], column: str, values: list) -> str:
    rows = "".join(f"{path},{value}\n" for path, value in zip(paths, values, strict=True))
    (root / "metadata.csv").write_text(f"file_name,{column}\n{rows}")
    return str(root)


def test_class_folders_win_over_metadata_about_something_else(tmp_path: Path) -> None:
    paths = classes(("red", "blue"))
    root = Path(write(tmp_path / "d", paths))
    metadata(root, paths, "author", [f"photographer {index % 2}" for index in range(8)])
    data = load(str(root))
    assert per_class(data) == {"blue": 4, "red": 4}
    assert "Classes are the folders; metadata files (author) are not used." in data.notes
    other = load(str(root), label_column="author")
    assert per_class(other) == {"photographer 0": 4, "photographer 1": 4}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["no", "yes"], ("no", "yes")),
        (["007", "1e3"], ("007", "1e3")),
        (["null", "NA"], ("NA", "null")),
        (["9", "10"], ("9", "10")),
    ],
)
def test_labels_in_metadata_are_what_is_written(
    tmp_path: Path, values: list[str], names: tuple[str, ...]
) -> None:
    paths = [f"images/{index} [x].png" for index in range(8)]
    root = Path(write(tmp_path / "d", paths))
    data = load(metadata(root, paths, "label", values * 4))
    assert data.class_names == names
    assert set(per_class(data).values()) == {4}


def test_metadata_of_each_split_and_images_without_a_row(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 50)):
        paths = [f"{index}.png" for index in range(6)]
        root = Path(write(tmp_path / "d" / split, paths, first))
        lines = [json.dumps({"file_name": path, "label": "ab"[int(path[0]) % 2]}) for path in paths]
        (root / "metadata.jsonl").write_text("\n".join(lines[:4]))
    data = load(str(tmp_path / "d"))
    assert per_class(data, data.train) == per_class(data, data.eval) == {"a": 2, "b": 2}
    assert "Left out 4 images that no metadata file names." in data.notes


def test_metadata_that_names_a_missing_file_or_one_twice_is_refused(tmp_path: Path) -> None:
    paths = [f"{index}.png" for index in range(4)]
    root = Path(write(tmp_path / "d", paths))
    text = message(metadata(root, [*paths[:3], "gone.png"], "label", list("abab")))
    assert "names 'gone.png' in column 'file_name', which is no image beside it" in text
    assert "name 1 images more than once" in message(
        metadata(root, [*paths, paths[0]], "label", list("ababb"))
    )
