"""What the files of a published set have in common: frozen models, checked when they are read.

A file may come from anyone, so reading is strict: text is not taken for a number, and no number is
infinite. Keys that a model does not have are ignored, for a later version may add some; settings
that this version does not have are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from wdistill.artifact.layout import inside
from wdistill.config import FORMAT_VERSION
from wdistill.core.files import read_json, write_json
from wdistill.core.text import clean
from wdistill.errors import OptionError, RunFolderError

LARGEST = 10**18  # a larger number is damage
Key = TypeVar("Key")
Value = TypeVar("Value")

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
FrozenMap = Annotated[Mapping[Key, Value], AfterValidator(MappingProxyType), PlainSerializer(dict)]

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "dataclass_type": "a mapping",
}
_SIZES = ("less_than_equal", "greater_than_equal", "finite_number", "int_parsing_size")


class Record(BaseModel):
    """A part of a file, frozen."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class FileRecord(Record):
    """The whole content of a JSON file."""

    format_version: Count

    @classmethod
    def read(cls, path: Path) -> Self:
        """The content of ``path``.

        Raises:
            RunFolderError: the file is missing, damaged, of another format or of another kind.
        """
        return cls.parse(read_json(inside(path.parent, path)), path)

    @classmethod
    def parse(cls, content: Any, path: Path) -> Self:
        """``content``, the JSON of the file ``path``, as a model.

        Raises:
            RunFolderError: it is of another format or of another kind.
        """
        version = content.get("format_version") if isinstance(content, dict) else None
        if type(version) is int and version > FORMAT_VERSION:
            raise RunFolderError(f"'{path}' is of format {version}; upgrade wdistill to read it")
        if type(version) is int and version < FORMAT_VERSION:
            raise RunFolderError(
                f"'{path}' is of format {version}, which this version of wdistill does not read; "
                "write it again"
            )
        try:
            return cls.model_validate_json(json.dumps(content))  # as JSON: a list makes a tuple
        except ValidationError as error:
            reason = explain(error)
        except OptionError as error:  # a setting that is not allowed
            reason = str(error).replace("`", "")
        raise RunFolderError(f"'{path}' is not what wdistill writes: {reason}; write it again")

    def write(self, path: Path) -> None:
        """Write this to ``path`` as JSON, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))


def explain(error: ValidationError) -> str:
    """The first problem of ``error`` in words, such as ``barycenter.w2.3 is str instead of a
    number``.
    """
    problem = error.errors(include_url=False)[0]
    kind, value = problem["type"], problem["input"]
    context = problem.get("ctx", {})
    where = clean(".".join(map(str, problem["loc"])))[:100] or "it"
    actual = "null" if value is None else type(value).__name__
    words = {
        "missing": "is missing",
        "unexpected_keyword_argument": "is no setting of this version of wdistill; upgrade it",
        "literal_error": f"is {str(value)[:100]!r}; choose one of {context.get('expected')}",
        **dict.fromkeys(_SIZES, "is not a number of a sensible size"),
        **{name: f"is {actual} instead of {wanted}" for name, wanted in _EXPECTED.items()},
    }
    if kind == "value_error":  # a check of a model, which names the fields itself
        return clean(context["error"])
    return f"{where} {words.get(kind) or clean(problem['msg'])}"
