"""The card says what the files say, plainly, whatever the files hold."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from datasets.info import DatasetInfosDict
from helpers.browser import CHROMIUM, chromium
from helpers.examples import NAMES, distilled_set, manifest, manifest_json, write_set
from helpers.reports import report, report_row, run_report
from huggingface_hub import DatasetCard
from jinja2 import UndefinedError
from ruamel.yaml import YAML

from wdistill.artifact.candidate import candidate
from wdistill.artifact.distilled_set import read_report, shards
from wdistill.artifact.layout import CURVE_FILE
from wdistill.artifact.report import Report
from wdistill.config import StudentConfig
from wdistill.core.files import write_json
from wdistill.data.pixels import Preprocessing
from wdistill.errors import HubError, RunFolderError
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.evaluation.wording import COUNTED
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.publishing.card.card import PLACEHOLDER_REPO, render_card
from wdistill.publishing.card.markdown import environment, escape, fenced, link
from wdistill.publishing.card.pictures import preview_grid, save_png

GOLDEN = Path(__file__).parent / "golden/card.md"
ATTACK = "</details><script>alert(1)</script>|"
BREAKOUT = (
    "a/b\n---\nlicense: mit\n---\n# Owned [x](javascript:alert(1)) `code` **bold** www.evil.com"
)


def publish(
    folder: Path,
    names: tuple[str, ...] = NAMES,
    ipc: int = 4,
    report: Report | None = None,
    **changes: Any,
) -> Path:
    described = manifest(names, ipc, **changes)
    write_set(folder / f"ipc{ipc}", distilled_set(names, ipc), described)
    if report is not None:
        report.write(folder / f"ipc{ipc}" / "report.json")
    return folder


def data_of(card: str) -> dict[str, Any]:
    return dict(DatasetCard(card).data.to_dict())


def html(card: str) -> str:
    markdown_it = pytest.importorskip("markdown_it")
    text = DatasetCard(card).text
    return str(markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace(",", "")))


def test_golden(tmp_path: Path) -> None:
    """After a wanted change: WDISTILL_GOLDEN=write pytest tests/test_card.py, and read the diff."""
    publish(tmp_path, report=run_report())
    save_png(tmp_path / "ipc4" / "preview.png", preview_grid(distilled_set()))
    # The version of zlib decides the true sizes.
    manifest().write(tmp_path / "ipc4" / "wdistill.json")
    card = re.sub(r"download_size: \d+", "download_size: 12684", render_card(tmp_path))
    if os.environ.get("WDISTILL_GOLDEN") == "write":
        GOLDEN.write_text(card, encoding="utf-8")
    assert card == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("weights", "words"), [("equal", "equally"), ("proportional", "in proportion to their images")]
)
def test_groups_are_told(weights: str, words: str, tmp_path: Path) -> None:
    changes = {
        "config__data__group_column": "site|<b>", "config__barycenter__group_weights": weights,
        "source__groups": 3,
    }  # fmt: skip
    text = section(render_card(publish(tmp_path, **changes)), "How it was made")
    assert f"3 groups named by column <code>site&#124;&#60;b&#62;</code>, weighted {words}" in text
    (tmp_path / "plain").mkdir()
    assert "groups" not in section(render_card(publish(tmp_path / "plain")), "How it was made")


def test_yaml_is_what_push_to_hub_writes(tmp_path: Path) -> None:
    card = render_card(publish(tmp_path))
    data = data_of(card)
    assert data["license"] == "mit"
    assert data["size_categories"] == ["n<1K"]
    assert data["source_datasets"] == ["extended|other"]
    assert {"dataset-distillation", "synthetic", "wdistill", "wmdd", "ipc-4"} == set(data["tags"])
    info = DatasetInfosDict.from_dataset_card_data(DatasetCard(card).data)["ipc4"]
    assert info.features["label"].names == list(NAMES)
    assert info.splits["train"].num_examples == 12
    assert info.download_size == shards(tmp_path / "ipc4")[0].stat().st_size
    assert info.dataset_size == info.splits["train"].num_bytes > 0


ODD_NAMES = (
    "no", "yes", "on", "N", "007", "1e3", "12e03", "0o17", "null", "~", "1.0", "1_000", "1:30",
    "0x1F", ".inf", "2024-01-01", "=", "<<", "", " lead", "a: b", "#x", "- x", "{a}", "!tag", "&a",
    "*a", "%", "@", "`", "'q'", '"d"', "back\\slash", "tab\tx", "new\nline", "next\x85line",
    "\x85first", "\u2028separated", "\ufeffmarked", "\u00a0a", "é", "\U0001f600", "a/b", "|", ">",
)  # fmt: skip


def test_names_that_yaml_takes_for_something_else_are_text_to_every_reader(tmp_path: Path) -> None:
    publish(tmp_path, ODD_NAMES, ipc=1)
    card = render_card(tmp_path)
    (info,) = DatasetInfosDict.from_dataset_card_data(DatasetCard(card).data).values()
    assert info.features["label"].names == list(ODD_NAMES)
    newer = YAML(typ="safe", pure=True).load(card.split("---\n")[1])  # version 1.2
    features = {feature["name"]: feature for feature in newer["dataset_info"]["features"]}
    assert tuple(features["label"]["dtype"]["class_label"]["names"].values()) == ODD_NAMES


def test_load_dataset_reads_such_names_back(tmp_path: Path) -> None:
    publish(tmp_path / "set", ODD_NAMES, ipc=1)
    (tmp_path / "set/README.md").write_text(render_card(tmp_path / "set"), encoding="utf-8")
    rows = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.features["label"].names == list(ODD_NAMES)


@pytest.mark.parametrize(
    ("source", "expected", "said"),
    [
        ({"license": None}, {}, "**unknown**"),
        ({"license": "unknown"}, {}, "ask the publisher of"),
        ({"license": "CC-BY-4.0"}, {"license": "cc-by-4.0"}, "Inherited from the source: CC-BY"),
        ({"license": "mit, gpl-3.0"}, {"license": ["mit", "gpl-3.0"]}, "source: mit, gpl-3.0."),
        (
            {"license": "other", "license_name": "ImageNet Terms", "license_link": "LICENSE.md"},
            {
                "license": "other",
                "license_name": "imagenet-terms",
                "license_link": "https://huggingface.co/datasets/imagenet-1k/blob/main/LICENSE.md",
            },
            "[ImageNet Terms](https://huggingface.co/datasets/imagenet-1k/blob/main/LICENSE.md)",
        ),
        (
            {"license": "my own: 'x'\nlicense: mit", "license_link": "javascript:alert(1)"},
            {"license": "other", "license_name": "my-own-x-license-mit"},
            "Inherited from the source",
        ),
    ],
)
def test_licence_is_inherited_and_never_invented(
    tmp_path: Path, source: dict[str, Any], expected: dict[str, str], said: str
) -> None:
    changes = {f"source__{key}": value for key, value in source.items()}
    hub = {"source__id": "imagenet-1k", "source__kind": "hub", "source__access": "gated"}
    card = render_card(publish(tmp_path, **changes, **hub))
    data = data_of(card)
    assert {key: data[key] for key in data if key.startswith("license")} == expected
    assert data["source_datasets"] == ["imagenet-1k"]
    assert said in section(card, "Licence and terms")
    assert "**gated**" in section(card, "Licence and terms")


def test_every_number_of_the_results_is_in_the_files(tmp_path: Path) -> None:
    publish(tmp_path, report=run_report(other_hard=(0.9123, 0.0, 1)))
    found = read_report(tmp_path / "ipc4")
    assert found is not None
    rows = {(row.images, row.labels): row for row in found.rows}
    known = {"2000", "1", "4", "10", "93.1"} | numbers(str(found.recipe))
    known.add("46")  # "1 min 46 s"
    known |= {str(int(float(n))) for n in known}
    for row in rows.values():
        known |= {f"{100 * row.top1_mean:.1f}", f"{100 * row.top1_std:.1f}", str(row.n)}
    for labels in ("soft", "hard"):
        gain = rows["distilled", labels].top1_mean - rows["random", labels].top1_mean
        known.add(f"{abs(100 * gain):.1f}")
    shown = (
        section(render_card(tmp_path), "Results").replace("resnet10-w16", "").replace("top-1", "")
    )
    assert numbers(shown) <= known
    assert "| Distilled | Random real | other | Distilled − random |" in shown
    assert "| hard | 4 | 60.2 ± 0.8 % (n = 2) | 63.5 ± 0.5 % (n = 2) | 91.2 % (n = 1) | −3.3 |" in (
        shown
    )


@pytest.mark.parametrize(
    ("distilled", "rival", "said"),
    [
        ((0.70, 0.01, 2), (0.60, 0.01, 2), "10.0 points better than random real images."),
        ((0.60, 0.01, 2), (0.70, 0.01, 2), "10.0 points worse than random real images, which are"),
        ((0.70, 0.01, 2), (0.69, 0.01, 2), "no clear difference (+1.0 points, within the spread"),
        ((0.6897, 0.01, 2), (0.69, 0.01, 2), "no clear difference (0.0 points, within the spread"),
        ((0.68, 0.0, 1), (0.69, 0.0, 1), "worse than random real images (one seed, so the"),
        ((0.69, 0.0, 1), (0.69, 0.0, 1), "score the same (one seed, so the spread is unknown)."),
    ],
)
def test_a_loss_is_said_as_plainly_as_a_gain(
    tmp_path: Path, distilled: Any, rival: Any, said: str
) -> None:
    publish(tmp_path, report=run_report(distilled_soft=distilled, random_soft=rival))
    assert said in section(render_card(tmp_path), "Results")


def test_without_results_it_says_not_evaluated(tmp_path: Path) -> None:
    card = render_card(publish(tmp_path))
    assert "**not evaluated**" in section(card, "Results")
    assert "preview.png" not in card
    assert "Measured narrowly" not in card


@pytest.mark.parametrize(
    ("init", "iterations", "said"),
    [
        ("real", 100, "starts from a real training image and stays visibly close to it"),
        ("real", 0, "These are real training images, compressed but otherwise unchanged"),
        ("mean", 100, "starts from the mean of several real training images"),
        ("noise", 100, "start from noise"),
    ],
)
def test_privacy_is_never_promised(tmp_path: Path, init: str, iterations: int, said: str) -> None:
    changes = {"config__synthesis__init": init, "config__synthesis__iterations": iterations}
    limits = section(render_card(publish(tmp_path, **changes)), "Limitations and bias")
    assert "**No privacy protection.**" in limits
    assert said.replace("close to it", "close to") in limits


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    changes = {"source__broken": 3, "source__unlabelled": 1200, "source__eval_is_holdout": True}
    card = render_card(publish(tmp_path, **changes))
    assert "| Evaluation split | held out of test, 2,000 images |" in card
    limits = section(card, "Limitations and bias")
    assert "- 3 images of the source were left out: they are broken." in limits
    assert "- 1,200 images of the source were left out: they have no label." in limits
    assert "were held out of its training split" in limits


def test_many_classes_are_folded(tmp_path: Path) -> None:
    card = render_card(publish(tmp_path, names=tuple(f"class {c}" for c in range(30)), ipc=1))
    table = section(card, "How close to the real data")
    assert "| class 19 |" in table
    assert "| class 20 |" not in table
    assert "10 more classes are in `ipc1/wdistill.json`" in table


def test_hostile_names_are_literal_text(tmp_path: Path) -> None:
    names = (ATTACK, BREAKOUT, "`a` | ![x](http://evil/x.png) &lt; {{ 7*7 }} {% raw %}")
    changes = {
        "source__pretty_name": BREAKOUT,
        "source__id": BREAKOUT,
        "source__kind": "hub",
        "source__revision": "x](javascript:alert(1))",
        "source__url": "javascript:alert(1)",
        "source__eval_split": ATTACK,
        "command": "wdistill run\n```\n" + ATTACK,
        "device": ATTACK,
        "teacher__backbone": "microsoft/x\n# y" + ATTACK,
        "teacher__revision": "main",
        "teacher__architecture": ATTACK,
        "local_students": {ATTACK: ATTACK},
        "versions": {ATTACK: ATTACK},
        "config_changed": [ATTACK],
        "config__data__group_column": ATTACK,
        "source__groups": 2,
    }
    values = run_report().model_dump() | {"local_students": {ATTACK: ATTACK}}
    values["rows"][0]["student"] = ATTACK
    values["recipe"] |= {"optimizer": ATTACK, "schedule": ATTACK}
    report = Report.model_validate(values)
    card = render_card(publish(tmp_path, names=names, report=report, **changes))
    data = data_of(card)
    info = DatasetInfosDict.from_dataset_card_data(DatasetCard(card).data)["ipc4"]
    assert tuple(info.features["label"].names) == names
    assert data["license"] == "mit"
    assert data["source_datasets"] == ["extended|other"]
    front = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert front["pretty_name"] == data["pretty_name"]

    page = html(card)
    local = run_report().model_copy(update={"local_students": {"resnet10-w16": "resnet"}})
    honest = html(render_card(publish(tmp_path / "honest", report=local)))
    links = set(re.findall(r'(?:href|src)="([^"]*)"', page))
    assert links == {"#citation", "https://arxiv.org/abs/2311.18531"}
    for tag in ("<script", "<img", "<strong>bold"):
        assert tag not in page
    for tag in ("details", "summary", "table", "h1", "h2", "pre"):
        assert page.count(f"<{tag}>") == honest.count(f"<{tag}>"), tag
        assert page.count(f"<{tag}>") == page.count(f"</{tag}>"), tag
    assert "{{ 7*7 }}" in page
    assert "www.evil" not in card.split("\n---\n", 1)[1]  # which GitHub would make a link
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|" in page  # shown as it is written


def test_local_folders_are_told_by_their_architecture(tmp_path: Path) -> None:
    report = run_report().model_copy(update={"local_students": {"net": "vit, 64 channels"}})
    card = render_card(publish(tmp_path, report=report, teacher__backbone="teacher"))
    assert "1. **Teacher**: teacher (resnet, 16-32-64-128 channels, 1 block a stage)," in card
    assert "Student net has the architecture of a local folder: vit, 64 channels." in card


def test_chosen_real_images_are_not_called_synthetic(tmp_path: Path) -> None:
    chosen = {"config__synthesis__iterations": 0}
    card = render_card(publish(tmp_path, **chosen))
    data = data_of(card)
    assert "synthetic" not in card.lower()
    assert data["annotations_creators"] == ["found", "machine-generated"]
    assert "No human labelled" not in card
    publish(tmp_path, ipc=2, **chosen)
    assert "\nSelected real images for each of 3 classes in 2 sets" in render_card(tmp_path)
    publish(tmp_path, ipc=1)
    mixed = render_card(tmp_path)
    assert "\nSynthetic and selected real images for each of 3 classes in 3 sets" in mixed
    assert "synthetic" in data_of(mixed)["tags"]


def test_escape() -> None:
    assert escape("T-shirt/top (no. 1)") == "T-shirt/top (no. 1)"
    assert escape("data.bn_weight") == "data.bn_weight"
    assert escape("__init__\n# x") == "&#95;&#95;init&#95;&#95; &#35; x"
    assert escape("a\u202eb\u2028c") == "a b c"
    assert link("x]", "https://a.b/c_(d)") == "x&#93;"
    assert link("x", "https://a.b/c?d=e") == "[x](https://a.b/c?d=e)"
    assert fenced("a ```` b\n```").startswith("`````text\na ```` b ```\n`````")


def test_a_template_cannot_forget_to_escape_or_misspell() -> None:
    template = environment().from_string("{{ x }}{% for y in z %}{{ y }}{% endfor %}{{ '<' }}")
    assert template.render(x="<b>", z=["|"]) == "&#60;b&#62;&#124;&#60;"
    with pytest.raises(UndefinedError):
        environment().from_string("{{ missing }}").render()


def test_a_source_without_a_pretty_name_goes_by_its_id(tmp_path: Path) -> None:
    card = render_card(publish(tmp_path, source__pretty_name=None, source__id="me/pets"))
    assert data_of(card)["pretty_name"] == "me/pets, distilled to 4 images per class"
    assert "\n# me/pets, distilled to 4 images per class\n" in card


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    publish(tmp_path)
    for other in (manifest_json(NAMES[:2]), manifest_json(classes=["a", "b", "c"])):
        write_json(tmp_path / "ipc4" / "wdistill.json", other)
        with pytest.raises(RunFolderError, match="disagree"):
            render_card(tmp_path)


def test_the_repository_id_is_filled_in(tmp_path: Path) -> None:
    card = render_card(publish(tmp_path), "alice/tiny")
    assert card.count('load_dataset("alice/tiny", split="train")') == 2
    with pytest.raises(HubError, match="is not a repository id"):
        render_card(tmp_path, 'x")\nimport os')


@pytest.mark.parametrize(
    ("student", "labels", "steps"),
    [
        ("convnet-w64", "hard", 100),
        ("resnet10-w16", "soft", 100),
        pytest.param("vit", "hard", 250, marks=pytest.mark.slow),
    ],
)
def test_the_training_snippet_trains(
    student: str, labels: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    row = report_row("distilled", labels, 4, student, NAMES, steps=steps)
    recipe = report().recipe.model_copy(update={"steps": steps, "temperature": 1.0})
    folder = publish(tmp_path / "set", report=report(NAMES, rows=[row], recipe=recipe))
    blocks = re.findall(r"```python\n(.*?)```", render_card(folder), flags=re.DOTALL)
    assert len(blocks) == 2
    assert all(block.count(PLACEHOLDER_REPO) == 1 for block in blocks)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network is slower on more
    loaded: dict[str, Any] = {}
    for block in blocks:
        loaded = {}
        exec(block.replace(PLACEHOLDER_REPO, str(folder)), loaded)  # the card's own words
    torch.set_num_threads(threads)
    with torch.no_grad():
        output = loaded["model"].eval()(loaded["x"])
    logits = output if isinstance(output, torch.Tensor) else output.logits
    assert (logits.argmax(1) == loaded["data"]["label"]).float().mean() > 0.8
    own = new_network(find_backbone(student, resolution=28), NAMES, 28, 0)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (loaded["model"], own)]
    assert sizes[0] == sizes[1], "the network of the table"


@pytest.mark.slow
@pytest.mark.parametrize("student", ["convnet-w64", "resnet10-w16"])
def test_the_snippet_learns_what_the_tools_own_student_learns(
    student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of shirts, trousers and pullovers, 12 real images each, tested on others."""
    import torch

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    config = StudentConfig(steps=200, batch_size=12)
    recipe = recipe_for(config, 36)
    found = report(NAMES, rows=[report_row("distilled", "hard", 12, student, NAMES, steps=200)])
    found = found.model_copy(update={"recipe": recipe})
    folder = publish(tmp_path / "set", ipc=12, report=found)
    block = re.findall(r"```python\n(.*?)```", render_card(folder), flags=re.DOTALL)[1]
    loaded: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(block.replace(PLACEHOLDER_REPO, str(folder)), loaded)

    given = candidate(distilled_set(ipc=12))
    data = TrainingSet(given.pixels, given.labels, given.weights, soft=False)
    mean, std = (tuple(loaded[name].flatten().tolist()) for name in ("mean", "std"))
    network = new_network(find_backbone(student, resolution=28), NAMES, 28, 0)
    training = Training(recipe, 0, torch.device("cpu"))
    train_student(network, data, Preprocessing(28, 0, mean, std), training)

    tests = candidate(distilled_set(ipc=150))
    kept = torch.arange(len(tests.labels)) % 150 >= 12  # those that no student has seen
    x = (tests.pixels[kept] / 255 - loaded["mean"]) / loaded["std"]
    scores = []
    for model in (loaded["model"], network):
        with torch.no_grad():
            output = model.eval()(x)
        logits = output if isinstance(output, torch.Tensor) else output.logits
        scores.append(float((logits.argmax(1) == tests.labels[kept]).float().mean()))
    assert min(scores) > 0.7
    assert abs(scores[0] - scores[1]) < 0.06, scores


def test_the_snippet_is_the_student_of_the_first_row(tmp_path: Path) -> None:
    found = report(NAMES)
    first = next(row for row in found.rows if row.images == "distilled")
    text = section(render_card(publish(tmp_path, report=found)), "Train on it")
    assert text.lstrip().startswith("PyTorch and transformers, no other code needed. This trains")
    assert "This trains a student of the table above as it was trained there" in text
    assert f"{first.student}, hard labels, AdamW, {first.steps:,} steps" in text
    assert f"lr={found.recipe.lr:g}, weight_decay={found.recipe.weight_decay:g})" in text
    assert f"[:{first.steps}]:" in text
    assert 'F.one_hot(data["label"], 3)' in text
    sgd = {"optimizer": "SGD", "lr": 0.05, "momentum": 0.9}
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"recipe": found.recipe.model_copy(update=sgd)}, "SGD(model.parameters(), lr=0.05, mom"),
        (
            {"rows": [report_row("distilled", student="me/net", names=NAMES)]},
            "another network than the",
        ),
        (
            {"local_students": {"resnet10-w16": "resnet"}},
            "This is a convnet-w64 with hard labels, another",
        ),
        (
            {"recipe": found.recipe.model_copy(update={"name": "classic"})},
            "by another recipe than there",
        ),
        (
            {"rows": [report_row("distilled", "teacher", names=NAMES), *found.rows]},
            f"as it was trained there: {first.student}, hard labels",
        ),
        (
            {"rows": [report_row("distilled", "teacher", names=NAMES)]},
            "the table above has no student that saw nothing but the files",
        ),
    )
    for index, (changes, said) in enumerate(cases):
        other = publish(tmp_path / f"{index}", report=report(NAMES, **changes))
        assert said in section(render_card(other), "Train on it")
    plain = section(render_card(publish(tmp_path / "plain")), "Train on it")
    assert "no student was trained on these files before they were published" in plain


@pytest.mark.parametrize("first", ["AdamW", "SGD"])
def test_of_two_optimisers_the_card_names_that_of_its_headline_and_code(
    first: str, tmp_path: Path
) -> None:
    adamw = report(NAMES).recipe
    sgd = adamw.model_copy(update={"optimizer": "SGD", "lr": 0.05, "momentum": 0.9})
    recipes = {"AdamW": adamw, "SGD": sgd}
    names = (first, *(recipes.keys() - {first}))
    rows = [report_row(kind, names=NAMES, optimizer=name)
            for name in names for kind in ("distilled", "random")]  # fmt: skip
    own, other = (recipes[name] for name in names)
    both = report(NAMES, rows=rows, recipe=own, other_recipes=[other])
    card = render_card(publish(tmp_path, report=both))
    assert f"hard labels and {first}, reaches" in card
    text = section(card, "Train on it")
    assert f"hard labels, {first}, {rows[0].steps:,} steps." in text
    assert f"torch.optim.{first}(" in text
    named = [each.model_copy(update={"name": "classic"}) for each in (own, other)]
    theirs = report(NAMES, rows=rows, recipe=named[0], other_recipes=[named[1]])
    text = section(render_card(publish(tmp_path / "theirs", report=theirs)), "Train on it")
    assert "by another recipe than there" in text
    assert "Its optimiser is AdamW." in text


def test_the_card_says_what_the_bits_of_its_picture_are_of(tmp_path: Path) -> None:
    """They differ from those of the parquet files, which the card gives as well."""
    folder = publish(tmp_path, report=report(NAMES))
    assert COUNTED not in render_card(folder)
    (folder / "ipc4" / CURVE_FILE).touch()
    card = render_card(folder)
    assert COUNTED in card
    assert "The parquet files take **" in card


LOOK = """
addEventListener("load", () => {
  const frame = document.querySelector("iframe").contentDocument
  const shown = (element) => element.getBoundingClientRect().height > 0
  document.body.dataset.found = JSON.stringify({
    pictures: [...frame.images].map((image) => image.naturalWidth),
    headings: [...frame.querySelectorAll("h1, h2")].filter(shown).map((h) => h.innerText),
    rows: [...frame.querySelectorAll("table")].map((table) => table.rows.length),
    folds: [...frame.querySelectorAll("details")].map((fold) => fold.open),
    code: [...frame.querySelectorAll("pre code")].map((code) => code.innerText.split("\\n")[0]),
    scripts: frame.scripts.length,
    links: [...frame.links].map((link) => link.protocol),
  })
})
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("names", [NAMES, (ATTACK, BREAKOUT, *(f"class {c}" for c in range(40)))])
def test_it_renders_in_a_browser(names: tuple[str, ...], tmp_path: Path) -> None:
    """The picture is there, tables are tables, folds are closed, and nothing runs."""
    folder = publish(tmp_path, names, report=run_report())
    save_png(folder / "ipc4" / "preview.png", preview_grid(distilled_set(names, 4)))
    (tmp_path / "card.html").write_text(html(render_card(folder)), encoding="utf-8")
    outer = f"<!doctype html><body><iframe src='card.html'></iframe><script>{LOOK}</script></body>"
    done = chromium(tmp_path, outer, "--dump-dom", "--allow-file-access-from-files")
    written = re.search(r'data-found="([^"]*)"', done.stdout)
    assert written is not None, done.stderr
    found = json.loads(unescape(written[1]))
    assert found["pictures"]
    assert all(width > 300 for width in found["pictures"])
    text = DatasetCard(render_card(folder)).text
    titles = re.findall(r"^##? (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    assert len(found["headings"]) == len(titles)
    assert found["rows"]
    assert min(found["rows"]) >= 2
    assert found["folds"]
    assert not any(found["folds"])
    assert any(line.startswith("from datasets import load_dataset") for line in found["code"])
    assert found["scripts"] == 0
    assert set(found["links"]) <= {"https:", "http:", "mailto:", "file:"}
    assert ":CONSOLE" not in done.stderr
