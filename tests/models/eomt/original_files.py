# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as the authors' code writes them, made of transformers' models: names by rules of their own.

The rules here go from transformers to the authors directly, so that they check the library's tables and are not them.
"""

import copy
import re

import torch
from transformers import (
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
)

SIZES = {
    "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 80, "patch_size": 16,
    "num_upscale_blocks": 2, "num_blocks": 2, "num_queries": 7, "num_labels": 5, "num_register_tokens": 2,
    "no_object_weight": 0.2,
}  # fmt: skip
_DINOV3_SIZES = SIZES | {"intermediate_size": 80, "layer_norm_eps": 1e-5}
MODELS = {
    "dinov2": (EomtForUniversalSegmentation, EomtConfig(**SIZES, mlp_ratio=2)),
    "dinov2 without registers": (EomtForUniversalSegmentation, EomtConfig(**SIZES | {"num_register_tokens": 0})),
    "dinov2 gated": (EomtForUniversalSegmentation, EomtConfig(**SIZES, use_swiglu_ffn=True)),
    "dinov3": (EomtDinov3ForUniversalSegmentation, EomtDinov3Config(**_DINOV3_SIZES)),
    "dinov3 gated": (
        EomtDinov3ForUniversalSegmentation,
        EomtDinov3Config(**_DINOV3_SIZES, use_gated_mlp=True, hidden_act="silu"),
    ),
}

_HEADS = [
    (r"^query\.", "q."),
    (r"^class_predictor\.", "class_head."),
    (r"^mask_head\.fc1\.", "mask_head.0."),
    (r"^mask_head\.fc2\.", "mask_head.2."),
    (r"^mask_head\.fc3\.", "mask_head.4."),
    (r"^upscale_block\.block\.(\d)\.layernorm2d\.", r"upscale.\1.norm."),
    (r"^upscale_block\.block\.", "upscale."),
    (r"^layernorm\.", "encoder.backbone.norm."),
    (r"^layers\.", "encoder.backbone.blocks."),
    (r"^embeddings\.", "encoder.backbone."),
]
_DINOV2 = [
    (r"\.register_tokens$", ".reg_token"),
    (r"\.position_embeddings\.weight$", ".pos_embed"),
    (r"\.patch_embeddings\.projection\.", ".patch_embed.proj."),
    (r"\.attention\.out_proj\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.(down_proj|weights_out)\.", ".mlp.fc2."),  # the second one in older releases of transformers
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
]
_DINOV3 = [(r"^encoder\.backbone\.(cls_token|register_tokens|patch_embeddings)", r"encoder.backbone.patch_embed.\1")]


def stock_model(name, seed=3):
    """Return a model of transformers in which all weights are other than at the start."""
    torch.manual_seed(seed)
    kind, config = MODELS[name]
    model = kind(copy.deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.attn_mask_probs.copy_(torch.tensor([0.0, 1.0]))
    return model


def original_state_dict(model):
    """Return the weights of transformers' model as the authors' code names them."""
    is_dinov2 = isinstance(model, EomtForUniversalSegmentation)
    found = {}
    for name, tensor in model.state_dict().items():
        for pattern, replacement in [*_HEADS, *(_DINOV2 if is_dinov2 else _DINOV3)]:
            name = re.sub(pattern, replacement, name)
        found[name if name.startswith("criterion.") else f"network.{name}"] = tensor
    for part in ("mean", "std"):
        found[f"network.encoder.pixel_{part}"] = torch.ones(1, 3, 1, 1)
    if is_dinov2:
        for name in [name for name in found if ".attention.q_proj." in name]:
            parts = [found.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            found[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
        for name in [name for name in found if ".mlp.gate_proj." in name]:
            parts = [found.pop(name), found.pop(name.replace("gate_proj", "up_proj"))]
            found[name.replace("gate_proj", "fc1")] = torch.cat(parts)
        positions = found["network.encoder.backbone.pos_embed"][None]
        if not model.config.num_register_tokens:  # then the class token has a position, too
            del found["network.encoder.backbone.reg_token"]
            positions = torch.cat([torch.full_like(positions[:, :1], 0.25), positions], dim=1)
            found["network.encoder.backbone.cls_token"] = found["network.encoder.backbone.cls_token"] - 0.25
        found["network.encoder.backbone.pos_embed"] = positions
    return found
