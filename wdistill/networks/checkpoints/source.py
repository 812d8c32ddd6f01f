"""What the name of a network refers to: a Hub id, a local folder, or a built-in architecture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    ImageProcessingMixin,
    PretrainedConfig,
)

from wdistill.config import BUILT_IN
from wdistill.core.text import clean, hub_id_in
from wdistill.errors import BackboneError
from wdistill.networks.architectures import built_in_config
from wdistill.networks.checkpoints.configuration import check_usable
from wdistill.networks.checkpoints.files import (
    check_pointers,
    files_of,
    has_pickled,
    has_weights,
    unreadable_folder,
)

STUDENTS = "evaluate.students"  # they start from random weights


@dataclass(frozen=True)
class BackboneSource:
    """What the name of a network refers to, before any weight is loaded. setting: that names it."""

    name: str
    config: PretrainedConfig
    processor: dict[str, Any] | None
    has_weights: bool
    revision: str | None
    trust_remote_code: bool
    setting: str = "teacher.backbone"

    @property
    def subject(self) -> str:
        """With which messages about it begin."""
        return f"`{self.setting}` {self.name!r}"


def find_backbone(
    name: str,
    *,
    resolution: int,
    revision: str | None = None,
    trust_remote_code: bool = False,
    setting: str = "teacher.backbone",
) -> BackboneSource:
    """Configuration and image processor of ``name``.

    Raises:
        BackboneError: There is none, no image can be its input, or its weights are of a kind that
            is never read, which does not matter in a student.
    """
    if name in BUILT_IN:
        config = built_in_config(name, resolution)
        return BackboneSource(name, config, None, False, None, trust_remote_code, setting)
    subject, folder = f"`{setting}` {name!r}", Path(name).expanduser()
    local = folder.is_dir()
    if local:
        sha, files = None, files_of(folder)
        check_pointers(folder, subject)
    else:
        sha, files = _on_the_hub(name, revision, setting)
    load = {"revision": sha, "trust_remote_code": trust_remote_code}
    path = str(folder) if local else name
    try:
        config = AutoConfig.from_pretrained(path, **load)
        _check_classifies(config, subject)
        processor = _processor(path, load)
    except BackboneError:
        raise
    except Exception as error:
        message = unreadable_folder(files, subject) or load_failure(subject, local, error)
        raise BackboneError(message) from error
    check_usable(config, subject)
    weights = True
    if setting != STUDENTS and files and not (sha and has_pickled(files)):  # the Hub converts those
        weights = has_weights(files, subject)
    return BackboneSource(path, config, processor, weights, sha, trust_remote_code, setting)


def _check_classifies(config: PretrainedConfig, subject: str) -> None:
    known = type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    if not known and not hasattr(config, "auto_map"):
        raise BackboneError(
            f"{subject} is a {config.model_type!r} network, which has no "
            "image-classification form in transformers; choose an image classifier"
        )


def _on_the_hub(name: str, revision: str | None, setting: str) -> tuple[str | None, list[str]]:
    """The commit, and the files of it as far as they are known."""
    subject = f"`{setting}` {name!r}"
    try:
        info = HfApi().model_info(name, revision=revision)
        return info.sha, [file.rfilename for file in info.siblings or ()]
    except GatedRepoError as error:
        raise BackboneError(
            f"{subject} is gated; accept its terms on its page, then run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise BackboneError(f"{subject} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise BackboneError(
            f"{subject} is no model on the Hub, no local folder and no built-in "
            f"({', '.join(BUILT_IN)}); if it is private, run `hf auth login` first"
        ) from error
    except HFValidationError as error:
        if Path(name).expanduser().is_file():
            raise BackboneError(
                f"{subject} is a file; give the folder that holds config.json and the weights"
            ) from error
        inside = hub_id_in(name)
        if inside is not None:
            raise BackboneError(f"{subject} is an address; give {inside}") from error
        raise BackboneError(
            f"{subject} is neither a Hub id, nor a local folder, nor a built-in "
            f"({', '.join(BUILT_IN)})"
        ) from error
    except Exception:  # offline: a cached copy may do, and from_pretrained says if it does not
        return revision, []


def _processor(path: str, load: dict[str, Any]) -> dict[str, Any] | None:
    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(path, **load)
    except OSError:
        if (Path(path) / "preprocessor_config.json").exists():  # there, but damaged
            raise
        return None
    return dict(values)


def load_failure(subject: str, local: bool, error: Exception) -> str:
    """One line about what a library has raised over a checkpoint."""
    text = str(error)
    if "gated repo" in text:
        return f"{subject} is gated; accept its terms on its page, then run `hf auth login`"
    if "trust_remote_code" in text or "contains custom code" in text:
        return (
            f"{subject} runs code of its own; pass `teacher.trust_remote_code=True` if you trust it"
        )
    if "use_safetensors" in text and "does not appear to have a file" in text:
        return (
            f"{subject} has only pickled weights, which are never read, and the Hub holds no "
            "converted copy of them; convert them with save_pretrained(folder)"
        )
    if isinstance(error, ImportError):
        package = _missing_package(text)
        needs = f"the package {package!r}; pip install {package}" if package else clean(text)
        return f"{subject} needs {needs}, or choose another network"
    first = clean(text.strip().split("\n")[0]) or type(error).__name__
    if isinstance(error, TypeError | AttributeError | LookupError | AssertionError):
        first = f"transformers cannot build what its config.json describes ({first})"
    if local:
        return f"{subject} cannot be read as a Hugging Face model folder: {first}"
    return f"{subject} cannot be loaded: {first}"


def _missing_package(text: str) -> str | None:
    patterns = (
        r"pip install (?:-\w+ )*([\w-]+)",
        r"requires? the (\S+) library",
        r"No module named '(\w+)",
    )
    matches = (re.search(pattern, text) for pattern in patterns)
    return next((match[1] for match in matches if match), None)
