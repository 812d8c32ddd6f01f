"""A small publishable folder of real images, and pushes of it from processes of their own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.examples import manifest_json
from helpers.hub_server import HubServer, run_python
from helpers.runs import embedded_table

NAMES = ["trouser", "ankle boot", "bag"]
TOKEN = "hf_aliceSecretWriteToken"
READ_TOKEN = "hf_aliceSecretReadToken"
BOB_TOKEN = "hf_bobSecretWriteToken"
SECRETS = (TOKEN, READ_TOKEN, BOB_TOKEN, "hf_wrongSecretToken")
CARD = """---
license: mit
task_categories: [image-classification]
size_categories: [n<1K]
tags: [dataset-distillation]
configs:
- config_name: ipc2
  data_files:
  - {split: train, path: ipc2/data/train-*.parquet}
  default: true
---
# Six distilled images
"""

PUSH = """
import json, sys, warnings
from pathlib import Path
from wdistill.errors import WdistillError
from wdistill.publishing.hub import client
from wdistill.publishing.hub.push import PushOptions, push
client.WAITS = (0.01, 0.01, 0.01, 0.01)
folder, repo_id, options = json.loads({args!r})
try:
    result = push(Path(folder), repo_id, PushOptions(**options))
    print(json.dumps(vars(result)))
except WdistillError as error:
    print(json.dumps({{"error": str(error), "type": type(error).__name__}}))
assert {joins} or "torch" not in sys.modules
"""


def real_images(count: int) -> np.ndarray:
    """The first images of the embedded test split."""
    cells = embedded_table("test", count, classes=1)["image"].to_pylist()
    return np.stack([np.array(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells])


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path: Path, rows: dict[str, list[Any]]) -> None:
    """A parquet file as `datasets` writes it, schema metadata included."""
    from datasets import ClassLabel, Dataset, Features, List, Value
    from datasets import Image as ImageFeature

    every = {
        "image": ImageFeature(),
        "label": ClassLabel(names=NAMES),
        "weight": Value("float32"),
        "soft_label": List(Value("float32"), length=len(NAMES)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    features = Features({name: every[name] for name in rows})
    Dataset.from_dict(rows, features=features).to_parquet(path)


def manifest(**source: Any) -> str:
    """wdistill.json of the six images; source: what it tells of the real ones."""
    changes = {"id": "alice/real", "kind": "hub", "license": "mit", **source}
    named = {f"source__{name}": value for name, value in changes.items()}
    return json.dumps(manifest_json(tuple(NAMES), 2, **named))


def count_bytes(made: Path) -> None:
    """Write into wdistill.json how many bytes the parquet files of the set are."""
    path = made / "wdistill.json"
    value = json.loads(path.read_text())
    for name, folder in (("parquet", "data"), ("label_views", "soft_labels")):
        files = made.glob(f"{folder}/train-*.parquet")
        value["bytes"][name] = sum(file.stat().st_size for file in files)
    path.write_text(json.dumps(value))


def six_rows() -> dict[str, list[Any]]:
    soft = np.random.default_rng(0).dirichlet(np.ones(len(NAMES)), 6).astype(np.float32)
    return {
        "image": [{"bytes": png(pixels), "path": None} for pixels in real_images(6)],
        "label": [0, 0, 1, 1, 2, 2],
        "weight": [0.25, 0.75, 0.5, 0.5, 0.125, 0.875],
        "soft_label": soft.tolist(),
    }


def finished_run(folder: Path) -> Path:
    publish = folder / "publish"
    made = publish / "ipc2"
    parquet(made / "data" / "train-00000-of-00001.parquet", six_rows())
    (publish / "README.md").write_text(CARD)
    (made / "wdistill.json").write_text(manifest())
    count_bytes(made)
    (made / "report.json").write_text("{}")
    (made / "preview.png").write_bytes(png(real_images(1)[0]))
    (made / "notes.txt").write_text("not on the list of what is published")
    (folder / "teacher.safetensors").write_bytes(b"not published either")
    return folder


def add_users(server: HubServer) -> None:
    server.add_user("alice", TOKEN, orgs=("lab",))
    server.add_user("alice", READ_TOKEN, role="read")
    server.add_user("bob", BOB_TOKEN)


def push_code(folder: Path, repo_id: str, joins: bool = False, **options: Any) -> str:
    """joins: whether other sets are in the repository, for whose card more is imported."""
    return PUSH.format(args=json.dumps([str(folder), repo_id, options]), joins=joins)


def run_push(
    env: dict[str, str], folder: Path, repo_id: str, joins: bool = False, **options: Any
) -> dict[str, Any]:
    done = run_python(push_code(folder, repo_id, joins, **options), env)
    assert done.returncode == 0, done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "\n" not in answer.get("error", "")
    return answer


def run_json(code: str, env: dict[str, str]) -> Any:
    done = run_python(code, env)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
