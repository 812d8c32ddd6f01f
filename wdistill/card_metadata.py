"""The YAML block of the card, and where the source and its licence are to be found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datasets import DatasetInfo, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from wdistill import label_files
from wdistill.artifact import features, shards
from wdistill.markdown import Trusted, is_hub_id, is_url, link

HUB = "https://huggingface.co"
LABELS_CONFIG = label_files.FOLDER
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")

Json = dict[str, Any]


def metadata(folder: Path, manifest: Json) -> DatasetCardData:
    source, count = manifest["source"], manifest["images"]
    data = DatasetCardData(
        **_license_fields(source),
        pretty_name=title(manifest),
        task_categories=["image-classification"],
        size_categories=[next((name for top, name in _SIZES if count < top), "1M<n<10M")],
        source_datasets=[source["id"] if _on_hub(source) else "extended|other"],
        annotations_creators=["machine-generated"],
        tags=["dataset-distillation", "synthetic", "wdistill", "wmdd", f"ipc-{manifest['ipc']}"],
        configs=_configs(manifest),
    )
    infos = {"default": _info(folder, manifest)}
    if manifest["labels"]["stored"]:
        infos[LABELS_CONFIG] = _labels_info(folder, manifest)
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def _configs(manifest: Json) -> list[Json]:
    files = {"split": "train", "path": "data/train-*.parquet"}
    found: list[Json] = [{"config_name": "default", "data_files": [files]}]
    if manifest["labels"]["stored"]:
        found[0]["default"] = True
        views = {"split": "train", "path": f"{LABELS_CONFIG}/train-*.parquet"}
        found.append({"config_name": LABELS_CONFIG, "data_files": [views]})
    return found


def _info(folder: Path, manifest: Json) -> DatasetInfo:
    """Features and sizes, as ``push_to_hub`` records them."""
    sizes = manifest["bytes"]
    size = sizes["images"] + sizes["soft_labels"] + manifest["images"] * (8 + 4)
    splits = SplitDict(dataset_name="default")
    splits["train"] = SplitInfo("train", num_bytes=size, num_examples=manifest["images"])
    return DatasetInfo(
        features=features(manifest["classes"]),
        splits=splits,
        download_size=sum(path.stat().st_size for path in shards(folder)),
        dataset_size=size,
    )


def _labels_info(folder: Path, manifest: Json) -> DatasetInfo:
    stored, classes = manifest["labels"]["stored"], len(manifest["classes"])
    rows, topk = stored["views"] * manifest["images"], stored["topk"]
    size = rows * (3 * 4 + 1 + 4 * 4 + 4 * 4 + 4 * topk + (4 * topk + 4 if topk < classes else 0))
    splits = SplitDict(dataset_name=LABELS_CONFIG)
    splits["train"] = SplitInfo("train", num_bytes=size, num_examples=rows)
    return DatasetInfo(
        features=label_files.features(topk, classes),
        splits=splits,
        download_size=sum(path.stat().st_size for path in label_files.label_shards(folder)),
        dataset_size=size,
    )


def _license_fields(source: Json) -> Json:
    chosen = license_id(source)
    if chosen is None:
        return {}
    if chosen != "other":
        return {"license": chosen}
    several = [part.strip().lower() for part in (source["license"] or "").split(",")]
    if len(several) > 1 and all(_LICENSE_ID.fullmatch(part) for part in several):
        return {"license": several}
    name = source["license_name"] or source["license"] or ""
    fields = {"license": "other", "license_name": _slug(name if name != "other" else "")}
    url = license_url(source)
    return fields | ({"license_link": url} if url else {})


def license_id(source: Json) -> str | None:
    given = (source["license"] or "").strip().lower()
    if given in ("", "unknown"):
        return "other" if source["license_name"] else None
    return given if _LICENSE_ID.fullmatch(given) else "other"


def license_url(source: Json) -> str | None:
    """``license_link`` is an address, or a file in the source's repository."""
    given = source["license_link"] or ""
    if is_url(given):
        return str(given)
    if re.fullmatch(r"[\w-]+(\.[\w-]+)*", given) and _on_hub(source):
        return f"{HUB}/datasets/{source['id']}/blob/main/{given}"
    return None


def _on_hub(source: Json) -> bool:
    return source["kind"] == "hub" and is_hub_id(source["id"])


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "see-source"


def title(manifest: Json) -> str:
    name = " ".join(source_name(manifest["source"]).split())
    noun = "image" if manifest["ipc"] == 1 else "images"
    return f"{name}, distilled to {manifest['ipc']} {noun} per class"


def source_name(source: Json) -> str:
    return str(source["pretty_name"] or source["id"])


def source_link(source: Json) -> Trusted:
    url = source["url"]
    if _on_hub(source):
        revision = source["revision"]
        pinned = f"/tree/{revision}" if revision and re.fullmatch(r"\w+", revision) else ""
        url = f"{HUB}/datasets/{source['id']}{pinned}"
    return link(source_name(source), url)
