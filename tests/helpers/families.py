"""Tiny configurations of every family of ``AutoModelForImageClassification``."""

from __future__ import annotations

from typing import Any

import transformers as t
from transformers import PretrainedConfig

SIDE = 64
_VIT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": SIDE, "patch_size": 16,
}  # fmt: skip
_TEXT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 50,
}  # fmt: skip
_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
_HEADS: dict[str, Any] = {**_STAGES, "num_attention_heads": [1, 1, 2, 2]}
_SWIN: dict[str, Any] = {
    "image_size": SIDE, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4,
}  # fmt: skip
_LEVIT: dict[str, Any] = {
    "image_size": SIDE, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 1, 2],
    "depths": [1, 1, 1], "key_dim": [8, 8, 8],
}  # fmt: skip
_DUAL: dict[str, Any] = {"vision_config": _VIT, "text_config": _TEXT}
_FOUR: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}

SETTINGS: dict[str, dict[str, Any]] = {  # by the model_type
    "beit": _VIT,
    "bit": {**_STAGES, "embedding_size": 8, "num_groups": 4},
    "clip": _DUAL,
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "cvt": {"embed_dim": [8, 16, 32], "num_heads": [1, 1, 2], "depth": [1, 2, 3]},
    "data2vec-vision": _VIT,
    "deit": _VIT,
    "dinat": {**_FOUR, "kernel_size": 3, "dilations": [[1], [1], [1], [1]]},
    "dinov2": _VIT,
    "dinov2_with_registers": _VIT,
    "donut-swin": _SWIN,
    "efficientnet": {
        "image_size": SIDE, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128,
        "num_block_repeats": [1] * 7,
    },
    "focalnet": {
        "image_size": SIDE, "embed_dim": 8, "depths": [1, 1], "focal_levels": [1, 1],
        "focal_windows": [3, 3],
    },
    "hgnet_v2": {
        "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 16],
        "stage_mid_channels": [8] * 4, "stage_out_channels": [16] * 4,
        "stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4,
        "hidden_sizes": [16] * 4, "depths": [1] * 4, "embedding_size": 8,
    },
    "hiera": {"image_size": [SIDE, SIDE], **_FOUR},
    "ijepa": _VIT,
    "imagegpt": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64},
    "levit": _LEVIT,
    "metaclip_2": _DUAL,
    "mobilenet_v1": {"depth_multiplier": 0.25, "image_size": SIDE},
    "mobilenet_v2": {"depth_multiplier": 0.1, "image_size": SIDE, "depth_divisible_by": 4},
    "mobilevit": {
        "image_size": SIDE, "hidden_sizes": [16] * 3,
        "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32],
    },
    "mobilevitv2": {"image_size": SIDE, "width_multiplier": 0.1},
    "perceiver": {
        "image_size": SIDE, "d_latents": 16, "d_model": 32, "num_latents": 8, "num_blocks": 1,
        "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
        "num_cross_attention_heads": 1,
    },
    "poolformer": _STAGES,
    "pp_lcnet": {"scale": 0.25},
    "pvt": {"image_size": SIDE, **_HEADS},
    "pvt_v2": {"image_size": SIDE, **_HEADS},
    "regnet": {**_STAGES, "embedding_size": 8, "groups_width": 4},
    "resnet": {**_STAGES, "embedding_size": 8, "layer_type": "basic"},
    "segformer": _HEADS,
    "shieldgemma2": {},
    "siglip": _DUAL,
    "siglip2": {},
    "swiftformer": {"image_size": SIDE, "embed_dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "textnet": {
        "image_size": [SIDE, SIDE], "stem_out_channels": 8, "hidden_sizes": [8] * 5,
    },
    "vit": _VIT,
    "vit_msn": _VIT,
}  # fmt: skip
NOT_ENOUGH = {  # why a family is refused, and where its class needs what is not there
    "dinat": "needs the package 'natten'",
    "imagegpt": "is a 'imagegpt' network",
    "pp_lcnet": "is a 'pp_lcnet' network",
    "shieldgemma2": "is a 'shieldgemma2' network",
    "siglip2": "is a 'siglip2' network",
}


def tiny_family(model_type: str, **settings: Any) -> PretrainedConfig:
    config = t.AutoConfig.for_model(model_type, **SETTINGS[model_type], **settings)
    config.architectures = []  # where a family has several classes, the first one
    return config
