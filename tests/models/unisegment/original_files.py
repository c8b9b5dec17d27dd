# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as the original code writes them, made of transformers' model: names by rules of their own.

The rules here go from transformers to the original directly, so that they check the library's tables and are not them.
"""

import collections
import pickle
import re

import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig, SwinConfig

STAGES = ["stage1", "stage2", "stage3", "stage4"]
BACKBONES = {
    "swin": SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 2, 2, 1], num_heads=[1, 2, 4, 8], window_size=3, drop_path_rate=0.3,
        out_features=STAGES,
    ),
    "resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 2, 2, 1], out_features=STAGES
    ),
    "basic resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[2, 1, 1, 2], layer_type="basic", out_features=STAGES
    ),
}  # fmt: skip
SIZES = {
    "feature_size": 64, "mask_feature_size": 48, "hidden_dim": 64, "encoder_layers": 2, "decoder_layers": 4,
    "num_attention_heads": 4, "num_queries": 13, "dim_feedforward": 40, "encoder_feedforward_dim": 56, "num_labels": 7,
    "no_object_weight": 0.2,
}  # fmt: skip

_HEAD = [
    (r"^class_predictor\.", "predictor.class_embed."),
    (r"^model\.transformer_module\.queries_embedder\.", "predictor.query_embed."),
    (r"^model\.transformer_module\.queries_features\.", "predictor.query_feat."),
    (r"^model\.transformer_module\.(level_embed|input_projections)\b", r"predictor.\1"),
    (r"^predictor\.input_projections\.", "predictor.input_proj."),
    (r"^model\.transformer_module\.decoder\.layernorm\.", "predictor.decoder_norm."),
    (
        r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.",
        r"predictor.mask_embed.layers.\1.",
    ),
    (r"^model\.transformer_module\.decoder\.layers\.(\d+)\.(.+)$", r"\2@\1"),
    (r"^cross_attn\.(.+)@(\d+)$", r"predictor.transformer_cross_attention_layers.\2.multihead_attn.\1"),
    (r"^cross_attn_layer_norm\.(.+)@(\d+)$", r"predictor.transformer_cross_attention_layers.\2.norm.\1"),
    (r"^self_attn\.(.+)@(\d+)$", r"predictor.transformer_self_attention_layers.\2.self_attn.\1"),
    (r"^self_attn_layer_norm\.(.+)@(\d+)$", r"predictor.transformer_self_attention_layers.\2.norm.\1"),
    (r"^fc(\d)\.(.+)@(\d+)$", r"predictor.transformer_ffn_layers.\3.linear\1.\2"),
    (r"^final_layer_norm\.(.+)@(\d+)$", r"predictor.transformer_ffn_layers.\2.norm.\1"),
    (r"^model\.pixel_level_module\.decoder\.", "pixel_decoder."),
    (r"^pixel_decoder\.level_embed$", "pixel_decoder.transformer.level_embed"),
    (r"^pixel_decoder\.input_projections\.", "pixel_decoder.input_proj."),
    (r"^pixel_decoder\.mask_projection\.", "pixel_decoder.mask_features."),
    (r"^pixel_decoder\.(adapter|layer)_1\.0\.", r"pixel_decoder.\1_1."),
    (r"^pixel_decoder\.(adapter|layer)_1\.1\.", r"pixel_decoder.\1_1.norm."),
    (r"^pixel_decoder\.encoder\.", "pixel_decoder.transformer.encoder."),
    (r"^(pixel_decoder.+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"^(pixel_decoder.+)\.final_layer_norm\.", r"\1.norm2."),
    (r"^(pixel_decoder.+)\.fc(\d)\.", r"\1.linear\2."),
]
_SWIN = [
    (r"^swin\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^swin\.embeddings\.norm\.", "patch_embed.norm."),
    (r"^swin\.encoder\.", ""),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.relative_position_bias\.", ".attn."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1_proj."),
]
_RESNET = [
    (r"^embedder\.embedder\.", "stem.conv1."),
    (r"^encoder\.stages\.(\d)\.layers\.(\d+)\.", lambda match: f"res{int(match[1]) + 2}.{match[2]}."),
    (r"\.layer\.(\d)\.", lambda match: f".conv{int(match[1]) + 1}."),
    (r"\.convolution\.", "."),
    (r"\.normalization\.", ".norm."),
]


def stock_model(backbone, **sizes):
    """Return transformers' own model with random weights, none at a special value."""
    model = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=BACKBONES[backbone], **SIZES | sizes))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and name != "criterion.empty_weight":
                tensor.add_(0.05 * torch.rand_like(tensor))
    return model.eval()


def _applied(rules, name):
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def original_state_dict(model, batch_norm="frozen"):
    """Return the weights of transformers' model as the original code names them."""
    found = {}
    for name, tensor in model.state_dict().items():
        inside = name.removeprefix("model.pixel_level_module.encoder.")
        if name == "criterion.empty_weight":
            found[name] = tensor
        elif inside == name:
            found["sem_seg_head." + _applied(_HEAD, name)] = tensor
        elif match := re.fullmatch(r"hidden_states_norms\.stage(\d)\.(.+)", inside):
            found[f"backbone.norm{int(match[1]) - 1}.{match[2]}"] = tensor
        elif not inside.startswith("swin.layernorm.") and (batch_norm != "frozen" or "num_batches" not in inside):
            found["backbone." + _applied(_SWIN if inside.startswith("swin.") else _RESNET, inside)] = tensor
    state_dict = collections.OrderedDict()
    for name, tensor in found.items():
        fused = re.fullmatch(r"(.+\.)([qkv])_proj\.(weight|bias)", name)
        if fused is None:
            state_dict[name] = tensor
        elif fused[2] == "q":
            parts = [found[f"{fused[1]}{part}_proj.{fused[3]}"] for part in "qkv"]
            whole = f"qkv.{fused[3]}" if name.startswith("backbone.") else f"in_proj_{fused[3]}"
            state_dict[fused[1] + whole] = torch.cat(parts)
    window = getattr(model.config.backbone_config, "window_size", None)
    for name in [name for name in state_dict if name.endswith("relative_position_bias_table")]:
        state_dict[name.replace("bias_table", "index")] = position_index(window)
    return state_dict


def position_index(window):
    """Return the rows of the bias table, looked up one pair of patches at a time."""
    index = torch.zeros(window**2, window**2, dtype=torch.int64)
    for one in range(window**2):
        for other in range(window**2):
            rows = one // window - other // window + window - 1
            columns = one % window - other % window + window - 1
            index[one, other] = rows * (2 * window - 1) + columns
    return index


def write_pickle(path, state_dict, **further):
    """Write a file as in the original's model zoo."""
    arrays = collections.OrderedDict((name, tensor.numpy()) for name, tensor in state_dict.items())
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody", **further}, protocol=4))
    return path
