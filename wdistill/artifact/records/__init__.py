"""The records that a manifest is made of, frozen and checked when they are read."""

from wdistill.artifact.records.choices import (
    BudgetRecord,
    BudgetTrial,
    CodingRecord,
    CodingTrial,
    LabelRecord,
    LabelTrial,
)
from wdistill.artifact.records.inputs import SourceRecord, TeacherRecord
from wdistill.artifact.records.output import BarycenterRecord, Distances, Sizes, StoredViews

__all__ = [
    "BarycenterRecord",
    "BudgetRecord",
    "BudgetTrial",
    "CodingRecord",
    "CodingTrial",
    "Distances",
    "LabelRecord",
    "LabelTrial",
    "Sizes",
    "SourceRecord",
    "StoredViews",
    "TeacherRecord",
]
