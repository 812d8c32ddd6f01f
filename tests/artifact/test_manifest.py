"""A manifest is refused in one line that names the field; its JSON schema ships in the package.

After a change of a model: PYTHONPATH=. python tests/artifact/test_manifest.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.examples import SCHEMAS, manifest, manifest_json

from wdistill.artifact.manifest import Manifest
from wdistill.artifact.records.model import FileRecord
from wdistill.artifact.report import Report
from wdistill.config import FORMAT_VERSION
from wdistill.core.files import write_json
from wdistill.data.content.coding import Coding
from wdistill.errors import RunFolderError

MODELS: dict[str, type[FileRecord]] = {"manifest": Manifest, "report": Report}


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    manifest().write(tmp_path / "wdistill.json")
    assert Manifest.read(tmp_path / "wdistill.json") == manifest()
    assert json.loads((tmp_path / "wdistill.json").read_text()) == manifest_json()


def test_sets_that_are_older_than_the_choice_of_a_format_are_png(tmp_path: Path) -> None:
    """`reproduce` makes them in the format that they have."""
    values = manifest_json()
    del values["config"]["coding"], values["coding"]
    (tmp_path / "wdistill.json").write_text(json.dumps(values))
    read = Manifest.read(tmp_path / "wdistill.json")
    assert Coding.of(read.config.coding) == Coding("png")
    assert read.coding.format == "png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "upgrade wdistill to read it"),
        ({"format_version": FORMAT_VERSION - 1}, "this version of wdistill does not read"),
        ({"ipc": "4"}, "ipc is str instead of a whole number"),
        ({"ipc": 10**30}, "ipc is not a number of a sensible size"),
        ({"ipc": 5}, "ipc is 5, but 4 in config"),
        ({"images": 13}, "images is 13 for 3 classes of 4"),
        ({"counts": [4, 4]}, "images is 12 for 3 classes of 4"),
        ({"counts": [3, 4, 4]}, "images is 12 for 3 classes of 4"),
        ({"counts": [3, 4, 5]}, "nearest_real_rmse does not have one value for each image"),
        ({"classes": [1]}, "classes.0 is int instead of text"),
        ({"source": []}, "source is list instead of a mapping"),
        ({"teacher": {}}, "teacher.backbone is missing"),
        ({"teacher__origin": "bought"}, "teacher.origin is 'bought'; choose one of"),
        ({"barycenter__w2": [1.0, "2", 3.0]}, "barycenter.w2.1 is str instead of a number"),
        ({"config__cheat": 1}, "config.cheat is no setting of this version of wdistill"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    nested = {path: value for path, value in change.items() if "__" in path}
    plain = {path: value for path, value in change.items() if "__" not in path}
    write_json(tmp_path / "wdistill.json", manifest_json(**nested) | plain)
    with pytest.raises(RunFolderError) as caught:
        Manifest.read(tmp_path / "wdistill.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def schema_text(model: type[FileRecord]) -> str:
    """The JSON schema of the file that ``model`` describes."""
    return json.dumps(model.model_json_schema(), indent=2, sort_keys=True) + "\n"


def undescribed(schema: Any) -> Any:
    """The schema without its descriptions, which not every version of pydantic takes over."""
    if isinstance(schema, dict):
        return {
            key: undescribed(value)
            for key, value in schema.items()
            if key != "description" or not isinstance(value, str)
        }
    return [undescribed(value) for value in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_in_the_package_is_that_of_the_model(name: str) -> None:
    stored = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    assert undescribed(stored) == undescribed(json.loads(schema_text(MODELS[name])))
    assert "format_version" in stored["required"]


if __name__ == "__main__":
    for name, model in MODELS.items():
        (SCHEMAS / f"{name}.schema.json").write_text(schema_text(model))


def test_images_may_be_shared_out_unequally() -> None:
    near = [[0.1] * 2, [0.1] * 3, [0.1] * 7]
    unequal = manifest(counts=[2, 3, 7], distances={"nearest_real_rmse": near})
    assert unequal.per_class == (2, 3, 7)
    assert (unequal.images, unequal.ipc) == (12, 4)
    assert manifest().per_class == (4, 4, 4)
