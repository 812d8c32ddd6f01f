"""Every setting once: its default and where that comes from, what is allowed, its help, its flag.

The settings are frozen, validated and hashable. Command-line options, `wdistill config` and the
reading of files are made from the fields. Sources: paper, Liu et al., arXiv 2311.18531v3; official,
defaults of the authors' code for that paper; own, our choice, measured where the README says so.
"""

from wdistill.config.data import DataConfig
from wdistill.config.distillation import (
    MOST_IPC,
    Aim,
    Allocation,
    BarycenterConfig,
    GroupWeights,
    Init,
    SynthesisConfig,
    Weights,
)
from wdistill.config.evaluation import FIXED, Baseline, EvaluateConfig, RecipeName, Space
from wdistill.config.publication import (
    FORMAT_VERSION,
    PLACEHOLDER_REPO,
    WEBP_QUALITY,
    CodingConfig,
    ImageFormat,
    LabelViewsConfig,
    RelabelConfig,
)
from wdistill.config.run import RunConfig, RuntimeConfig
from wdistill.config.students import (
    RATES,
    SGD_LR,
    WARM,
    Labels,
    Optimizer,
    StudentConfig,
)
from wdistill.config.teacher import BUILT_IN, TeacherConfig

__all__ = [
    "BUILT_IN",
    "FIXED",
    "FORMAT_VERSION",
    "MOST_IPC",
    "PLACEHOLDER_REPO",
    "RATES",
    "SGD_LR",
    "WARM",
    "WEBP_QUALITY",
    "Aim",
    "Allocation",
    "BarycenterConfig",
    "Baseline",
    "CodingConfig",
    "DataConfig",
    "EvaluateConfig",
    "GroupWeights",
    "ImageFormat",
    "Init",
    "LabelViewsConfig",
    "Labels",
    "Optimizer",
    "RecipeName",
    "RelabelConfig",
    "RunConfig",
    "RuntimeConfig",
    "Space",
    "StudentConfig",
    "SynthesisConfig",
    "TeacherConfig",
    "Weights",
]
