"""The YAML block of the card, and where the source and its licence are to be found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from wdistill.artifact.layout import LABELS_SUFFIX
from wdistill.artifact.manifest import Manifest
from wdistill.artifact.parquet import FOLDER, image_features
from wdistill.artifact.records import SourceRecord
from wdistill.core.text import is_url
from wdistill.labels.codec import label_features
from wdistill.publishing.card.markdown import Trusted, is_hub_id, link

HUB = "https://huggingface.co"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_NUMBER = re.compile(r"[-+]?(0o[0-7]+|\d+e[-+]?\d+)", re.IGNORECASE | re.ASCII)
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
Json = dict[str, Any]


def header(sets: Mapping[str, Manifest], default: str) -> str:
    """The YAML block of the card for sets of one source, by their names; ``default`` is loaded
    without a name.

    Class names such as ``no``, ``007`` and ``1e3`` are quoted where YAML 1.1 or 1.2 needs it.
    """
    fields = _metadata(sets, default).to_dict()
    return str(yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True)).rstrip()


class _Dumper(yaml.SafeDumper):
    """Also quotes what only YAML 1.2 reads as a number, and the line break U+0085."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if "\x85" in text else "'" if _NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


def _metadata(sets: Mapping[str, Manifest], default: str) -> DatasetCardData:
    """The content of the YAML block."""
    manifests = list(sets.values())
    source, count = manifests[0].source, sum(m.images for m in manifests)
    real = [m.untouched for m in manifests]  # their labels are those of the source
    data = DatasetCardData(
        **_license_fields(source),
        pretty_name=title(manifests),
        task_categories=["image-classification"],
        size_categories=[next((name for top, name in _SIZES if count < top), "1M<n<10M")],
        source_datasets=[source.id if _on_hub(source) else "extended|other"],
        annotations_creators=[*(["found"] if any(real) else []), "machine-generated"],
        tags=[
            "dataset-distillation", *([] if all(real) else ["synthetic"]), "wdistill", "wmdd",
            *dict.fromkeys(f"ipc-{m.ipc}" for m in manifests),
        ],
        configs=[e for name, m in sets.items() for e in _configs(name, m, default)],
    )  # fmt: skip
    infos = {key: info for name, m in sets.items() for key, info in _infos(name, m).items()}
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def _configs(name: str, manifest: Manifest, default: str) -> list[Json]:
    entries = [_config(name, f"{name}/data")]
    if name == default:
        entries[0]["default"] = True
    if manifest.label_views:
        entries.append(_config(name + LABELS_SUFFIX, f"{name}/{FOLDER}"))
    return entries


def _config(name: str, folder: str) -> Json:
    files = [{"split": "train", "path": f"{folder}/train-*.parquet"}]
    return {"config_name": name, "data_files": files}


def _infos(name: str, manifest: Manifest) -> dict[str, DatasetInfo]:
    """Features and sizes of each configuration, as ``push_to_hub`` records them."""
    sizes = manifest.bytes
    size = sizes.images + sizes.soft_labels + manifest.images * (8 + 4)
    own = image_features(manifest.classes, manifest.coding.grey)
    infos = {name: _info(name, own, manifest.images, size, sizes.parquet)}
    views, classes = manifest.label_views, len(manifest.classes)
    if views:
        name, topk = name + LABELS_SUFFIX, views.topk
        rows, cut = views.views * manifest.images, topk < classes
        size = rows * (3 * 4 + 1 + 4 * 4 + 4 * 4 + 4 * topk + (4 * topk + 4 if cut else 0))
        columns = label_features(topk, classes)
        infos[name] = _info(name, columns, rows, size, sizes.label_views)
    return infos


def _info(name: str, columns: Features, rows: int, size: int, download: int) -> DatasetInfo:
    splits = SplitDict(dataset_name=name)
    splits["train"] = SplitInfo("train", num_bytes=size, num_examples=rows)
    return DatasetInfo(features=columns, splits=splits, download_size=download, dataset_size=size)


def _license_fields(source: SourceRecord) -> Json:
    identifier = license_id(source)
    if identifier is None:
        return {}
    if identifier != "other":
        return {"license": identifier}
    several = [part.strip().lower() for part in (source.license or "").split(",")]
    if len(several) > 1 and all(_LICENSE_ID.fullmatch(part) for part in several):
        return {"license": several}
    name = source.license_name or source.license or ""
    fields = {"license": "other", "license_name": _slug(name if name != "other" else "")}
    url = license_url(source)
    return fields | ({"license_link": url} if url else {})


def license_id(source: SourceRecord) -> str | None:
    identifier = (source.license or "").strip().lower()
    if identifier in ("", "unknown"):
        return "other" if source.license_name else None
    return identifier if _LICENSE_ID.fullmatch(identifier) else "other"


def license_url(source: SourceRecord) -> str | None:
    """``license_link`` is an address, or a file in the source's repository."""
    address = source.license_link or ""
    if is_url(address):
        return str(address)
    if re.fullmatch(r"[\w-]+(\.[\w-]+)*", address) and _on_hub(source):
        return f"{HUB}/datasets/{source.id}/blob/main/{address}"
    return None


def _on_hub(source: SourceRecord) -> bool:
    return source.kind == "hub" and is_hub_id(source.id)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "see-source"


def title(manifests: Sequence[Manifest]) -> str:
    name = " ".join(source_name(manifests[0].source).split())
    counts = list(dict.fromkeys(str(m.ipc) for m in manifests))
    several = f"{', '.join(counts[:-1])} and {counts[-1]}" if len(counts) > 1 else counts[0]
    noun = "image" if counts == ["1"] else "images"
    average = " on average" if any(m.counts for m in manifests) else ""
    return f"{name}, distilled to {several} {noun} per class{average}"


def source_name(source: SourceRecord) -> str:
    return str(source.pretty_name or source.id)


def source_link(source: SourceRecord) -> Trusted:
    url = source.url
    if _on_hub(source):
        revision = source.revision
        pinned = f"/tree/{revision}" if revision and re.fullmatch(r"\w+", revision) else ""
        url = f"{HUB}/datasets/{source.id}{pinned}"
    return link(source_name(source), url)
