"""`wdistill evaluate` on real images: what it compares, what it refuses, and that it goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.foreign import real_images
from helpers.runs import embedded_table, run_wdistill, small_source
from torch import Tensor

import wdistill
from wdistill.artifact.distilled_set import read_distilled
from wdistill.artifact.layout import one_set
from wdistill.artifact.report import Report
from wdistill.config import Baseline, DataConfig, EvaluateConfig, RuntimeConfig, StudentConfig
from wdistill.errors import DataError, OptionError, WdistillError
from wdistill.evaluation.sets.baselines import herding
from wdistill.evaluation.sets.order import in_order_of
from wdistill.evaluation.sets.subject import against, open_subject
from wdistill.evaluation.wording import COUNTED

STEPS = ("--steps", "8", "--batch-size", "10", "--seeds", "2", "--student", "convnet-w64")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_source(tmp_path_factory.mktemp("real"), per_class=40)


@pytest.fixture(scope="module")
def run(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = run_wdistill(
        "run", "--dataset", real, "--ipc", "2", "--iterations", "2", "--teacher-epochs", "3",
        "--feature-spaces", "none", "--no-evaluate", "--output", folder,
        "--label-giver", "teacher", "--label-views", "0", "--resolution", "16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    done = run_wdistill(
        "evaluate", run, *STEPS, "--labels", "hard", "--labels", "soft", "--labels", "teacher",
        "--baselines", "random,nearest,herding,k-centre,noise,full",
        "--augmentation-robust",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = "now tells this evaluation"
    for shown in ("worth", "random real images per class", "herding", "report.html", told):
        assert shown in done.stdout
    Report.read(run / "report" / "report.json")
    found: dict[str, Any] = json.loads((run / "report" / "report.json").read_text())
    return found


def test_the_report_says_what_was_evaluated_and_how(report: dict[str, Any]) -> None:
    assert report["source"]["kind"] == "run"
    assert report["source"]["ipc"] == 2
    assert report["recipe"]["steps"] == 8


def test_all_sets_of_images_get_the_same_steps(report: dict[str, Any]) -> None:
    own = {(r["images"], r["labels"]) for r in report["rows"]}
    kinds = ("distilled", "random", "nearest", "herding", "k-centre", "noise", "full")
    wanted = {(kind, labels) for kind in kinds for labels in ("hard", "soft", "teacher")}
    assert own == wanted - {("full", "soft")}
    for row in report["rows"]:
        assert row["steps"] == 8
        assert row["n"] == 2
        assert row["top1_mean"] == pytest.approx(np.mean(row["per_class"]), abs=1e-3)
        counts = np.array(row["confusion"])
        assert counts.sum() == 2 * report["against"]["eval_images"]
        assert np.trace(counts) / counts.sum() == pytest.approx(row["top1_mean"])
        assert row["top5_mean"] >= row["top1_mean"]
        assert row["curve"]["step"][-1] == 8


def test_sizes_are_what_they_are_said_to_be(run: Path, report: dict[str, Any]) -> None:
    """See COUNTED: image files, classes and weights, and not the parquet files around them."""
    own = [r for r in report["rows"] if (r["images"], r["labels"]) == ("distilled", "hard")]
    (size,) = {row["bytes"] for row in own}
    (path,) = one_set(run).glob("data/*.parquet")
    files = [len(cell["bytes"]) for cell in pq.read_table(path)["image"].to_pylist()]
    assert size == sum(files) + len(files) * (4 + 8) != path.stat().st_size
    assert "counted before parquet: files of images, 4 bytes for a weight, 8 for a class" in COUNTED


def test_bytes_grow_with_images_and_labels(report: dict[str, Any]) -> None:
    size = {(r["images"], r["labels"], r["ipc"]): r["bytes"] for r in report["rows"]}
    assert size["distilled", "soft", 2] == size["distilled", "hard", 2] + 20 * (4 * 10 - 8)
    assert size["full", "hard", 40] > 10 * size["random", "hard", 2]
    assert size["distilled", "teacher", 2] > size["distilled", "hard", 2] + 4 * 70_000


def test_every_student_and_labels_has_its_worth_and_its_scores(report: dict[str, Any]) -> None:
    worth = {found["labels"]: found for found in report["equivalents"]}
    assert set(worth) == {"hard", "soft", "teacher"}
    for labels, found in worth.items():
        tried = {
            r["ipc"] for r in report["rows"] if (r["images"], r["labels"]) == ("random", labels)
        }
        assert min(tried) <= found["ipc"] <= max(tried)
    (scores,) = report["scores"]
    assert all(scores[name] is not None for name in scores)
    top1 = {(r["images"], r["labels"], r["ipc"]): r["top1_mean"] for r in report["rows"]}
    recovery = 100 * (top1["full", "hard", 40] - top1["distilled", "hard", 2])
    assert scores["hard_label_recovery"] == pytest.approx(recovery)


def test_the_card_of_a_run_tells_it(run: Path, report: dict[str, Any]) -> None:
    card = (run / "publish" / "README.md").read_text()
    assert "A new student is trained from scratch on each set of images" in card
    assert "| Worth |" in card
    own = next(r for r in report["rows"] if (r["images"], r["labels"]) == ("distilled", "hard"))
    assert f"{100 * own['top1_mean']:.1f}" in card
    assert (one_set(run) / "report.json").is_file()


@pytest.mark.parametrize("trial", [True, False], ids=["another folder", "other data"])
def test_what_does_not_go_on_the_card(
    trial: bool, run: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    card = (copy / "publish" / "README.md").read_bytes()
    other = small_source(tmp_path / "other", per_class=30)
    options = (
        ("--output", tmp_path / "elsewhere")
        if trial
        else ("--against", other, "--eval-split", "test[:50]")
    )
    done = run_wdistill(
        "evaluate",
        copy,
        *options,
        *STEPS,
        "--baselines",
        "none",
    )
    assert done.returncode == 0, done.stderr
    assert "now tells" not in done.stdout
    assert (copy / "publish" / "README.md").read_bytes() == card
    folder = tmp_path / "elsewhere" if trial else copy / "report"
    told = json.loads((folder / "report.json").read_text())["teacher"]
    stated = json.loads((one_set(run) / "wdistill.json").read_text())["teacher"]["accuracy"]
    true = accuracy_of(run / "teacher", other / "test.parquet")
    assert told["accuracy"] == pytest.approx(stated if trial else true)


@torch.no_grad()
def accuracy_of(teacher: Path, file: Path) -> float:
    """On the first fifty images, as any user of transformers would measure it."""
    import io

    from PIL import Image
    from transformers import AutoModelForImageClassification
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    rows = pq.read_table(file).slice(0, 50)
    images = [Image.open(io.BytesIO(cell["bytes"])) for cell in rows["image"].to_pylist()]
    processor = AutoImageProcessor.from_pretrained(teacher)
    model = AutoModelForImageClassification.from_pretrained(teacher, trust_remote_code=True)
    inputs = processor([image.convert("RGB") for image in images], return_tensors="pt")
    found = model.eval()(**inputs).logits.argmax(1).numpy()
    return float((found == rows["label"].to_numpy()).mean())


def test_a_second_start_computes_nothing_again(run: Path, report: dict[str, Any]) -> None:
    work = run / "work" / "evaluate"
    before = {path.name: path.stat().st_mtime_ns for path in work.iterdir()}
    done = run_wdistill("evaluate", run, *STEPS, "--labels", "hard")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in work.iterdir()} == before
    again = json.loads((run / "report" / "report.json").read_text())
    row = next(r for r in again["rows"] if r["images"] == "distilled")
    assert row["top1"] == next(
        r["top1"] for r in report["rows"] if (r["images"], r["labels"]) == ("distilled", "hard")
    )


@pytest.mark.slow
def test_two_processes_give_the_same_numbers_as_one(
    run: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    """Seeds, labels and images are shared out; the ladder of random images needs all of them."""
    done = run_wdistill(
        "evaluate", run, *STEPS, "--labels", "hard", "--labels", "soft",
        "--baselines", "random,nearest", "--output", tmp_path / "two", "--num-processes", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "report.json").read_text())
    kept = [
        row for row in report["rows"]
        if row["images"] in ("distilled", "random", "nearest") and row["labels"] != "teacher"
    ]  # fmt: skip
    assert {len(row["seeds"]) for row in two["rows"]} == {2}
    assert _without_seconds(two["rows"]) == _without_seconds(kept)
    assert two["equivalents"] == [e for e in report["equivalents"] if e["labels"] != "teacher"]
    assert two["projection"] == report["projection"]
    assert done.stdout.count("judging: ") == done.stdout.count("page: ") == 1


def _without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    return sorted(kept, key=lambda row: (row["labels"], row["images"], row["ipc"]))


def test_a_recipe_of_a_paper_trains_its_own_network(run: Path, tmp_path: Path) -> None:
    done = run_wdistill(
        "evaluate", run, "--recipe", "classic", "--steps", "3", "--seeds", "1",
        "--output", tmp_path / "classic",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = Report.read(tmp_path / "classic" / "report.json")
    assert {(row.student, row.labels) for row in found.rows} == {("convnet-3", "hard")}
    assert found.recipe.name == "classic"
    assert found.recipe.steps == 3
    assert (found.recipe.optimizer, found.recipe.augmentation) == ("SGD", "dsa")
    line = "Recipe classic, changed (3 steps in place of 1,001)"
    assert line in done.stdout
    assert line in (tmp_path / "classic" / "report.html").read_text()


def test_a_second_optimiser_leaves_the_students_of_the_first_as_they_are(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    given = ("evaluate", run, *STEPS, "--output", out)
    assert run_wdistill(*given).returncode == 0
    alone = Report.read(out / "report.json")
    before = {path: path.stat().st_mtime_ns for path in (out / "work").glob("*.json")}
    done = run_wdistill(*given, "--optimizer", "adamw", "--optimizer", "sgd")
    assert done.returncode == 0, done.stderr
    found = Report.read(out / "report.json")
    assert [recipe.optimizer for recipe in found.recipes] == ["AdamW", "SGD"]
    assert tuple(row for row in found.rows if row.optimizer == "AdamW") == alone.rows
    under = [row for row in found.rows if row.optimizer == "SGD"]
    assert {row.images for row in under} == {"distilled", "random"}
    assert {each.optimizer for each in found.equivalents} == {"AdamW", "SGD"}
    after = {path: path.stat().st_mtime_ns for path in (out / "work").glob("*.json")}
    assert {path: after[path] for path in before} == before
    assert len(after) - len(before) == sum(row.n for row in under)
    assert "convnet-w64, hard labels: " in done.stdout
    assert "points under SGD: " in done.stdout
    assert "Under the other optimiser" in (out / "report.html").read_text()


def test_easy_images_tiles_and_noise_beside_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wdistill.evaluation.sets.early.STEPS", 3)
    real = small_source(tmp_path / "real", per_class=12)
    theirs = foreign(tmp_path / "set.parquet", [str(c) for c in range(10)], [*range(10)] * 2)
    students = StudentConfig(students=("convnet-w64",), steps=2, seeds=1, batch_size=10)
    baselines: tuple[Baseline, ...] = ("easy", "tiles", "noise")
    config = EvaluateConfig(str(theirs), evaluate=students, baselines=baselines)
    found = wdistill.evaluate(
        theirs, against=real, output=tmp_path / "report", config=config,
        runtime=RuntimeConfig("cpu", quiet=True),
    )  # fmt: skip
    rows = {row.images: row for row in found.rows}
    assert set(rows) == {"distilled", *baselines}
    assert {(row.ipc, row.steps) for row in rows.values()} == {(2, 2)}
    assert rows["easy"].bytes == rows["tiles"].bytes, "as many stored images"
    assert rows["noise"].bytes == 20 * (3 * 28 * 28 + 8)
    page = (tmp_path / "report" / "report.html").read_text()
    for words in ("easy real", "tiles of easy real", "noise, same labels"):
        assert words in page


def test_what_a_recipe_fixes_is_refused_also_where_it_is_the_default(
    run: Path, real: Path, tmp_path: Path
) -> None:
    said = refused(run, "--recipe", "classic", "--lr", "0.001")
    assert said.startswith("--lr cannot be changed in recipe classic, which fixes it")
    theirs = foreign(tmp_path / "set.parquet", [str(c) for c in range(10)], list(range(10)))
    said = refused(theirs, "--against", real, "--recipe", "wmdd")
    assert said.startswith("--labels teacher needs a network that knows the classes")


def test_a_file_of_tensors_is_judged_at_its_stored_number_of_images(tmp_path: Path) -> None:
    """Tiles are more images for students, and no more for the real images beside them."""
    images, labels = real_images(2)
    torch.save([images.float() / 255, labels], tmp_path / "data.pt")
    real = small_source(tmp_path / "fashion_mnist", per_class=12)
    done = run_wdistill(
        "evaluate", tmp_path / "data.pt", "--against", real, "--recipe", "idc", "--steps", "2",
        "--seeds", "1", "--tiles", "2", "--output", tmp_path / "report",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = Report.read(tmp_path / "report" / "report.json")
    assert (found.source.kind, found.source.images, found.source.ipc) == ("file", 20, 2)
    assert found.recipe.batch_size == 64
    rows = {row.images: row for row in found.rows if row.ipc == 2}
    assert set(rows) == {"distilled", "random"}
    assert rows["distilled"].bytes == 20 * 28 * 28 * 4 + 20 * (8 + 4)
    (note,) = found.source.notes
    assert note.startswith("Each of the 20 stored images is decoded to 4")
    assert note in (tmp_path / "report" / "report.html").read_text()


def test_the_page_shows_the_numbers(run: Path, report: dict[str, Any]) -> None:
    page = (run / "report" / "report.html").read_text()
    assert "<html" in page
    row = next(r for r in report["rows"] if r["images"] == "distilled")
    assert f"{100 * row['top1_mean']:.1f}" in page


# --- sets that are not ours ---------------------------------------------------------------------


def foreign(folder: Path, names: list[str], labels: list[int]) -> Path:
    """A small image dataset of somebody else's, with its classes in their order."""
    table = embedded_table("train", 2)
    own = table["label"].to_numpy()
    rows = [int(np.flatnonzero(own == label)[k % 2]) for k, label in enumerate(labels)]
    images = table.take(pa.array(rows))["image"].to_pylist()
    position = [names.index(str(label)) for label in labels]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    datasets.Dataset.from_dict({"image": images, "label": position}, features=features).to_parquet(
        str(folder)
    )
    return folder


def test_a_permuted_order_of_classes_is_repaired(tmp_path: Path) -> None:
    names = [str(c) for c in reversed(range(10))]
    path = foreign(tmp_path / "set.parquet", names, list(range(10)) * 2)
    subject = in_order_of(
        open_subject(str(path), DataConfig()), tuple(str(c) for c in range(10)), "real"
    )
    assert subject.labels.tolist() == sorted(list(range(10)) * 2)
    table = embedded_table("train", 2)
    shown = np.asarray(subject.images.image(4))  # type: ignore[union-attr]
    own = table["label"].to_numpy()
    wanted = table["image"].to_pylist()[int(np.flatnonzero(own == 2)[0])]["bytes"]
    import io

    from PIL import Image

    assert np.array_equal(shown[..., 0], np.asarray(Image.open(io.BytesIO(wanted))))


@pytest.mark.parametrize(
    ("weight", "used"),
    [([0.25, 0.75, 1.0], True), ([70.0, 82.0, 61.0], False), ([-1.0, 2.0, 1.0], False)],
)
def test_a_weight_counts_if_it_is_a_share_of_the_class(
    tmp_path: Path, weight: list[float], used: bool
) -> None:
    path = foreign(tmp_path / "set.parquet", ["0", "1"], [0, 0, 1])
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train")
    soft = [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8 if used else 0.5]]
    more = loaded.add_column("weight", weight).add_column("soft_label", soft)
    more.to_parquet(str(tmp_path / "more.parquet"))
    subject = open_subject(str(tmp_path / "more.parquet"), DataConfig())
    assert (subject.weights is not None, subject.soft_labels is not None) == (used, used)
    if used:
        assert subject.weights.tolist() == weight  # type: ignore[union-attr]


def test_a_class_that_only_one_of_them_has_is_named(tmp_path: Path) -> None:
    path = foreign(tmp_path / "set.parquet", ["0", "1", "2"], [0, 1, 2, 0, 1, 2])
    subject = open_subject(str(path), DataConfig())
    with pytest.raises(DataError, match="no image of class 'd'"):
        in_order_of(subject, ("a", "b", "c", "d"), "real")
    named = foreign(tmp_path / "named.parquet", ["0", "1", "2"], [0, 1, 2])
    with pytest.raises(DataError, match="has class '2', which 'real' lacks"):
        in_order_of(open_subject(str(named), DataConfig()), ("0", "1"), "real")


def test_numbers_that_are_names_of_the_real_classes_are_matched_by_name(tmp_path: Path) -> None:
    names, real = [str(c) for c in range(12)], tuple(sorted(str(c) for c in range(12)))
    assert real[2] == "10"  # as the folders of images are sorted
    labels = [c % 10 for c in range(12)]
    path = foreign(tmp_path / "set.parquet", names[:10], labels)
    table = datasets.load_dataset("parquet", data_files=str(path), split="train")

    def matched(feature: object, values: list[object]) -> list[str]:
        made = table.remove_columns("label").add_column("label", values)
        made.cast_column("label", feature).to_parquet(str(tmp_path / "made.parquet"))
        subject = open_subject(str(tmp_path / "made.parquet"), DataConfig())
        found = in_order_of(subject, real, "real")
        rows = found.images.rows  # type: ignore[union-attr]
        return [real[found.labels[int(np.flatnonzero(rows == row)[0])]] for row in range(12)]

    assert matched(datasets.ClassLabel(names=names), list(range(12))) == names
    assert matched(datasets.Value("string"), list(names)) == names
    assert matched(datasets.Value("int64"), list(range(12))) == list(real)


def refused(*arguments: str | Path) -> str:
    """What `wdistill evaluate` says, in this process."""
    from click.testing import CliRunner

    from wdistill.cli.main import cli

    done = CliRunner().invoke(cli, ["evaluate", *map(str, arguments), "-q"])
    assert isinstance(done.exception, WdistillError), done.output
    assert str(done.exception).isprintable()
    return str(done.exception)


def test_options_choose_among_the_data_that_the_set_was_made_from(run: Path, real: Path) -> None:
    subject = open_subject(str(run), DataConfig())
    assert against(subject, DataConfig()).dataset == str(real)
    found = against(subject, DataConfig(eval_split="test[:5]", config_name="small"))
    assert (found.dataset, found.eval_split, found.config_name) == (str(real), "test[:5]", "small")
    assert against(subject, DataConfig(dataset="other")) == DataConfig(dataset="other")
    assert "no split is called 'nope'" in refused(run, "--eval-split", "nope")
    assert "--revision is for the Hub" in refused(run, "--revision", "main")


def test_options_for_sets_of_others_are_refused_for_ours(run: Path) -> None:
    options = {"--split": "s", "--image-column": "i", "--label-column": "l", "--resolution": "16"}
    for option, value in options.items():
        said = refused(run, option, value)
        assert said.startswith(f"{option} cannot apply to 'small', which is a set of wdistill")
    both = refused(run, "--split", "train", "--resolution", "16")
    assert both.startswith("--split and --resolution cannot apply")


def test_other_data_of_the_same_name_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "small"
    shutil.copytree(run, moved)
    told = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps(told | {"data.dataset": "real"}))
    small_source(tmp_path / "real", per_class=30)
    monkeypatch.chdir(tmp_path)
    said = refused(moved)
    assert said.startswith("'real' is not the data that this set was made from: its fingerprint is")
    assert said.endswith(
        "it has 300 training images and had 400; say where they are with --against"
    )


def test_a_teacher_that_is_not_where_it_was_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a folder beside the run, and the command is typed elsewhere."""
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    shutil.rmtree(moved / "teacher")
    told = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps(told | {"teacher.backbone": "nets/teacher"}))
    file = one_set(moved) / "wdistill.json"
    manifest = json.loads(file.read_text())
    manifest["teacher"] |= {"origin": "as_is", "backbone": "teacher", "revision": None}
    file.write_text(json.dumps(manifest))
    monkeypatch.chdir(tmp_path)
    assert refused(moved) == (
        "the teacher of the run is the folder 'nets/teacher', which is not there; go to where the "
        "run was started, or say where it is with --teacher"
    )


def test_a_manifest_of_somebody_names_no_folder_of_this_machine(
    run: Path, real: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / "publish", tmp_path / "theirs")
    file = one_set(tmp_path / "theirs") / "wdistill.json"
    manifest = json.loads(file.read_text())
    manifest["source"] |= {"kind": "hub", "id": str(real), "revision": None}
    manifest["teacher"] |= {
        "origin": "as_is", "backbone": str(run / "teacher"), "revision": "0" * 40,
    }  # fmt: skip
    file.write_text(json.dumps(manifest))
    said = refused(tmp_path / "theirs")
    assert said.startswith(f"the source of wdistill.json: {str(real)!r} is not a repository id")
    said = refused(tmp_path / "theirs", "--against", real)
    assert said.startswith(f"the teacher of wdistill.json: '{run / 'teacher'}' is not a repository")


def test_what_a_set_stands_for_must_be_said(tmp_path: Path) -> None:
    path = foreign(tmp_path / "set.parquet", ["0", "1"], [0, 1])
    with pytest.raises(OptionError, match=r"`against.dataset`"):
        against(open_subject(str(path), DataConfig()), DataConfig())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labels", "soft"], "has no soft labels"),
        (["--labels", "teacher"], "name one with --teacher"),
        (["--baselines", "herding"], "name one with --teacher"),
        (
            ["--baselines", "best"],
            "--baselines is 'best'; choose one of random, nearest, herding, k-centre, easy, tiles, "
            "noise, full",
        ),
        (["--seeds", "0"], "--seeds is 0; give a number from 1 to 100"),
        (["--batch-size", "0"], "--batch-size is 0; give a number from 1 to 100000"),
        (["--lr", "-1"], "--lr is -1.0; give a finite number above 0"),
        (
            ["--optimizer", "adamw", "--optimizer", "sgd", "--lr", "0.1"],
            "--lr is of one optimiser, but --optimizer names two; leave out one or the other",
        ),
        (
            ["--recipe", "classic", "--optimizer", "adamw"],
            "--optimizer cannot be changed in recipe",
        ),
        (["--steps", "5", "--epochs", "5"], "--epochs and --steps are both given"),
        pytest.param(["--student", "no/such"], "--student 'no/such'", marks=pytest.mark.slow),
        (["--student", "convnet", "--resolution", "4"], "--resolution is 4"),
    ],
)
def test_misuse_is_one_line(real: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    """In this process, since each start of Python costs seconds."""
    from click.testing import CliRunner

    from wdistill.cli.main import cli

    path = foreign(tmp_path / "set.parquet", [str(c) for c in range(10)], list(range(10)))
    given = ["evaluate", str(path), "--against", str(real), "-q", *arguments]
    done = CliRunner().invoke(cli, [*given, "--output", str(tmp_path / "out")])
    assert done.exception is not None
    assert said in str(done.exception), done.output
    assert not list(tmp_path.glob("out/*"))


def test_a_foreign_set_is_judged_with_settings_from_a_file(real: Path, tmp_path: Path) -> None:
    path = foreign(tmp_path / "set.parquet", [str(c) for c in range(10)], list(range(10)))
    settings = tmp_path / "settings.yaml"
    settings.write_text("evaluate: {students: [convnet-w64], steps: 4, seeds: 1}\nbaselines: []\n")
    out = tmp_path / "out"
    done = run_wdistill(
        "evaluate", path, "--against", real, "--train-split", "train+test", "--config", settings,
        "--output", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "540 images in 'train+test', 60 test images held out of 'train+test'" in done.stdout
    assert "(held out of &#39;train+test&#39;)" in (out / "report.html").read_text()
    Report.read(out / "report.json")
    report = json.loads((out / "report.json").read_text())
    assert report["source"]["kind"] == "dataset"
    assert report["teacher"] is None
    assert [row["n"] for row in report["rows"]] == [1]
    assert report["equivalents"] == []
    settings.write_text("colour: blue\n")
    refused = run_wdistill("evaluate", path, "--config", settings)
    assert refused.returncode == 2
    assert f"'{settings}': `colour` is no setting of wdistill" in refused.stderr


# --- herding ------------------------------------------------------------------------------------


def brute_force(x: Tensor, count: int) -> list[int]:
    picked: list[int] = []
    for k in range(1, count + 1):
        errors = {
            i: float((x.mean(0) - x[[*picked, i]].sum(0) / k).norm())
            for i in range(len(x))
            if i not in picked
        }
        picked.append(min(errors, key=lambda i: errors[i]))
    return picked


def test_herding_follows_the_mean() -> None:
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert herding(x, 8).tolist() == brute_force(x, 8)
    assert sorted(herding(x, 30).tolist()) == list(range(30))


def test_distilled_sets_are_read_as_they_are(run: Path) -> None:
    subject = open_subject(str(run), DataConfig())
    stored = read_distilled(one_set(run))
    assert np.array_equal(subject.images, stored.images)
    published = open_subject(str(run / "publish"), DataConfig())
    assert (subject.kind, published.kind) == ("run", "published")
    assert pq.read_table(one_set(run) / "data" / "train-00000-of-00001.parquet").num_rows == 20
