"""`wdistill.load`: a published set as a PyTorch dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.examples import NAMES, distilled_set, manifest, manifest_json, write_set
from helpers.hub_server import HubServer, hub_env
from helpers.labels import with_views
from helpers.pushes import run_json
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import wdistill
from wdistill.artifact.torch_dataset import DistilledImages
from wdistill.core.files import write_json
from wdistill.errors import DataError, OptionError, RunFolderError
from wdistill.labels.views import all_logits, render

LOAD = """
import json, wdistill
data = wdistill.load("alice/tiny")
target, mean = data[0]["target"].tolist(), data[0]["image"].mean().item()
print(json.dumps([len(data), data.class_names, target, mean]))
"""


def plain(folder: Path) -> Path:
    """A published folder without stored views."""
    write_set(folder / "ipc4", distilled_set(), manifest())
    return folder


def stacked(data: DistilledImages, name: str) -> torch.Tensor:
    return torch.stack([item[name] for item in data])


def test_items_are_the_views_as_the_teacher_saw_them(tmp_path: Path) -> None:
    views, _ = with_views(tmp_path)
    data = wdistill.load(tmp_path)
    assert (len(data), data.views, data.temperature) == (72, 6, 20.0)
    assert data.class_names == NAMES
    images = torch.from_numpy(distilled_set().images).permute(0, 3, 1, 2).float() / 255
    seen = render(images[views.image], images[views.partner], views)
    torch.testing.assert_close(stacked(data, "image"), seen)
    logits = all_logits(views, 3)
    torch.testing.assert_close(stacked(data, "target"), (logits / 20).softmax(1))
    labels = torch.from_numpy(distilled_set().labels)
    assert torch.equal(stacked(data, "label"), labels[views.image])


def test_a_view_weighs_what_its_parts_weigh(tmp_path: Path) -> None:
    views, _ = with_views(tmp_path)
    weights = 4 * torch.from_numpy(distilled_set().weights)  # four images per class: mean 1
    box = views.mix.double()
    pasted = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / 28**2
    expected = (1 - pasted) * weights[views.image] + pasted * weights[views.partner]
    found = stacked(wdistill.load(tmp_path), "weight").double()
    torch.testing.assert_close(found, expected)
    assert float(found.mean()) == pytest.approx(1)


def test_without_views_items_are_images_with_their_soft_labels(tmp_path: Path) -> None:
    data = wdistill.load(str(plain(tmp_path)), temperature=2)
    ours = distilled_set()
    assert (len(data), data.views, data.temperature) == (12, 0, 2.0)
    pixels = (255 * stacked(data, "image")).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(pixels, torch.from_numpy(ours.images))
    root = torch.from_numpy(ours.soft_labels).sqrt()  # softmax(log p / 2) is the normalised root
    torch.testing.assert_close(stacked(data, "target"), root / root.sum(1, keepdim=True))
    assert float(stacked(data, "weight").mean()) == pytest.approx(1)
    assert stacked(data, "label").tolist() == ours.labels.tolist()


def test_a_data_loader_batches_items_with_and_without_workers(tmp_path: Path) -> None:
    with_views(tmp_path)
    data = wdistill.load(tmp_path)
    one, two = (next(iter(DataLoader(data, 9, num_workers=n))) for n in (0, 2))
    shapes = {"image": (9, 3, 28, 28), "target": (9, 3), "weight": (9,), "label": (9,)}
    assert {name: tuple(value.shape) for name, value in one.items()} == shapes
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.testing.assert_close(one["image"][4], data[4]["image"])
    assert torch.equal(data[-1]["image"], data[71]["image"])
    with pytest.raises(IndexError):
        data[72]


def test_a_student_learns_what_the_teacher_says(tmp_path: Path) -> None:
    with_views(tmp_path)
    data = wdistill.load(tmp_path, temperature=1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        for batch in DataLoader(data, batch_size=24, shuffle=True):
            given = F.log_softmax(model(batch["image"] * 2 - 1), 1)
            distance = F.kl_div(given, batch["target"], reduction="none").sum(1)
            loss = (batch["weight"] * distance).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert sum(losses[-6:]) < 0.2 * sum(losses[:6])


def test_from_the_hub_only_what_is_needed_is_downloaded(tmp_path: Path) -> None:
    with_views(tmp_path / "set")
    (tmp_path / "set" / "ipc4" / "preview.png").write_bytes(b"not needed")
    paths = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    files = {path.relative_to(tmp_path / "set").as_posix(): path.read_bytes() for path in paths}
    with HubServer() as hub:
        hub.create_repo("dataset", "alice/tiny")
        hub.commit_files("dataset", "alice/tiny", files)
        env = hub_env(hub, tmp_path / "home", None)
        count, names, target, mean = run_json(LOAD, env)
        asked = " ".join(path for _, path, _ in hub.log)
    ours = wdistill.load(tmp_path / "set")
    assert (count, tuple(names)) == (72, NAMES)
    assert target == pytest.approx(ours[0]["target"].tolist())
    assert mean == pytest.approx(float(ours[0]["image"].mean()))
    assert "soft_labels/train-00000-of-00001.parquet" in asked
    assert "preview.png" not in asked


def test_what_cannot_be_loaded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plain(tmp_path / "set")
    with pytest.raises(OptionError, match=r"temperature is 0\.0; give a finite number above 0"):
        wdistill.load(folder, temperature=0)
    with pytest.raises(RunFolderError, match="does not exist; give a run"):
        wdistill.load(tmp_path / "none")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="'alice/unknown'"):
        wdistill.load("alice/unknown")
    written = json.loads((folder / "ipc4" / "wdistill.json").read_text())["bytes"]
    stored = {"views": 6, "topk": 3, "levels": 64, "temperature": 20}
    for other in (
        manifest_json(ipc=3),
        manifest_json(resolution=32),
        manifest_json(classes=["a", "b", "c"]),
        manifest_json(label_views=stored),
    ):
        write_json(folder / "ipc4" / "wdistill.json", other | {"bytes": written})
        with pytest.raises(RunFolderError, match="disagree"):
            wdistill.load(folder)
