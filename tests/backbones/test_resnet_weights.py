# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, max_pool2d
from transformers import ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetBackbone

from unisegment.backbones.resnet_weights import DETECTRON2_NAMES, TORCHVISION_NAMES, infer_config
from unisegment.backbones.transformers_backbone import TransformersBackbone

NORM = {"weight": (0.5, 1.5), "bias": (-1.0, 1.0), "running_mean": (-1.0, 1.0), "running_var": (0.5, 2.0)}


class Torchvision:
    """The names of a classifier of torchvision."""

    table, stem = TORCHVISION_NAMES, ("conv1", "bn1")

    @staticmethod
    def layer(stage, layer, conv):
        return f"layer{stage + 1}.{layer}.conv{conv}", f"layer{stage + 1}.{layer}.bn{conv}"

    @staticmethod
    def shortcut(stage, layer):
        return f"layer{stage + 1}.{layer}.downsample.0", f"layer{stage + 1}.{layer}.downsample.1"


class Detectron2:
    """The names of detectron2's backbone."""

    table, stem = DETECTRON2_NAMES, ("stem.conv1", "stem.conv1.norm")

    @staticmethod
    def layer(stage, layer, conv):
        return f"res{stage + 2}.{layer}.conv{conv}", f"res{stage + 2}.{layer}.conv{conv}.norm"

    @staticmethod
    def shortcut(stage, layer):
        return f"res{stage + 2}.{layer}.shortcut", f"res{stage + 2}.{layer}.shortcut.norm"


def resnet(names, bottleneck, depths=(2, 1, 2, 1), stem=8, widths=(8, 12, 16, 20)):
    """Return random weights of a ResNet; expansion of its bottlenecks 4, batch counters as torchvision has them."""
    state = {}

    def add(conv_and_norm, out_channels, in_channels, kernel):
        conv, norm = conv_and_norm
        state[f"{conv}.weight"] = torch.randn(out_channels, in_channels, kernel, kernel) / (in_channels * kernel)
        for leaf, (low, high) in NORM.items():
            state[f"{norm}.{leaf}"] = torch.empty(out_channels).uniform_(low, high)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(41)

    add(names.stem, stem, 3, 7)
    channels = stem
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        out = width * (4 if bottleneck else 1)
        for layer in range(depth):
            sizes = [(width, channels, 1), (width, width, 3), (out, width, 1)]
            for conv, size in enumerate(sizes if bottleneck else [(width, channels, 3), (width, width, 3)], 1):
                add(names.layer(stage, layer, conv), *size)
            if layer == 0 and (stage > 0 or channels != out):
                add(names.shortcut(stage, layer), out, channels, 1)
            channels = out
    return state


def features(state, names, x, bottleneck, depths=(2, 1, 2, 1)):
    """The forward pass of a ResNet (arXiv:1512.03385), with strides in the 3x3 convolutions as in torchvision."""

    def conv_norm(conv_and_norm, x, stride=1):
        conv, norm = conv_and_norm
        weight = state[f"{conv}.weight"]
        x = conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        constants = [state[f"{norm}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return batch_norm(x, *constants, training=False, eps=1e-5)

    x = max_pool2d(conv_norm(names.stem, x, stride=2).relu(), kernel_size=3, stride=2, padding=1)
    maps = []
    for stage, depth in enumerate(depths):
        for layer in range(depth):
            stride = 2 if stage > 0 and layer == 0 else 1
            strides = [1, stride, 1] if bottleneck else [stride, 1]
            residual = x
            for conv, conv_stride in enumerate(strides, 1):
                x = conv_norm(names.layer(stage, layer, conv), x, conv_stride)
                x = x.relu() if conv < len(strides) else x
            if f"{names.shortcut(stage, layer)[0]}.weight" in state:
                residual = conv_norm(names.shortcut(stage, layer), residual, stride)
            x = (x + residual).relu()
        maps.append(x)
    return maps


@pytest.mark.parametrize("freeze_norm", [True, False])
@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("names", [Torchvision, Detectron2])
def test_a_file_of_official_weights_gives_the_features_of_the_official_code(tmp_path, names, bottleneck, freeze_norm):
    state = resnet(names, bottleneck)
    classifier = {"fc.weight": torch.zeros(1000, 20), "fc.bias": torch.zeros(1000)}
    path = str(tmp_path / "official.pth")
    torch.save(state | classifier if names is Torchvision else {"model": state, "__author__": "torchvision"}, path)
    config = infer_config(names.table.to_ours(state))
    backbone = TransformersBackbone(config, (4, 8, 16, 32), freeze_norm).eval()
    backbone.load_pretrained(path)
    counters = {name: value for name, value in backbone.state_dict().items() if name.endswith("num_batches_tracked")}
    assert all(value == 41 for value in counters.values())
    assert bool(counters) is not freeze_norm
    x = torch.randn(2, 3, 37, 51)
    with torch.no_grad():
        for ours, theirs in zip(backbone(x), features(state, names, x, bottleneck), strict=True):
            assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("names", [Torchvision, Detectron2])
def test_names_go_both_ways_and_sizes_come_back(names, bottleneck):
    state = resnet(names, bottleneck)
    own = names.table.to_ours(state)
    assert names.table.to_theirs(own) == state
    config = infer_config(own)
    assert config.layer_type == ("bottleneck" if bottleneck else "basic")
    assert config.depths == [2, 1, 2, 1]
    assert config.embedding_size == 8
    assert config.hidden_sizes == ([32, 48, 64, 80] if bottleneck else [8, 12, 16, 20])
    assert config.out_features == ["stage1", "stage2", "stage3", "stage4"]
    assert not config.downsample_in_bottleneck


@pytest.mark.parametrize(("depths", "num_weights"), [([3, 4, 6, 3], 318), ([3, 4, 23, 3], 624)])
def test_real_sizes(depths, num_weights):
    with torch.device("meta"):
        own = ResNetBackbone(ResNetConfig(depths=depths)).state_dict()
    for names in (TORCHVISION_NAMES, DETECTRON2_NAMES):
        theirs = names.to_theirs(own)
        assert len(theirs) == num_weights
        assert {name: value.shape for name, value in names.to_ours(theirs).items()} == {
            name: value.shape for name, value in own.items()
        }
    assert DETECTRON2_NAMES.to_theirs(own)["res5.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert DETECTRON2_NAMES.to_theirs(own)[f"res4.{depths[2] - 1}.conv2.norm.running_var"].shape == (256,)
    assert TORCHVISION_NAMES.to_theirs(own)["layer2.0.downsample.1.running_mean"].shape == (512,)
    config = infer_config({name: value for name, value in own.items() if not name.endswith("num_batches_tracked")})
    assert (config.depths, config.hidden_sizes) == (depths, [256, 512, 1024, 2048])
    assert (config.embedding_size, config.layer_type) == (64, "bottleneck")


def without(state, start):
    return {name: value for name, value in state.items() if not name.startswith(start)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: without(own, "encoder.stages.3"), r"A ResNet has stages 0 to 3; .* stages \[0, 1, 2\]"),
        (lambda own: without(own, "encoder.stages.2.layers.0"), r"Stage 2 of this ResNet .* no layer 0"),
        (lambda own: without(own, "embedder"), r"The weight 'embedder.embedder.convolution.weight' is missing"),
        (
            lambda own: own | {"encoder.stages.1.layers.0.layer.1.convolution.weight": torch.zeros(12, 3, 3, 3)},
            r"transformers' ResNet cannot have these weights \(it has no groups.* 1 have another shape \(first: "
            r"encoder.stages.1.layers.0.layer.1.convolution.weight \(12, 3, 3, 3\) instead of \(12, 12, 3, 3\)\)",
        ),
        (
            lambda own: own | {"embedder.embedder.convolution.weight": torch.zeros(8, 3, 3, 3)},
            r"no deep stem\): .* \(8, 3, 3, 3\) instead of \(8, 3, 7, 7\)",
        ),
        (
            lambda own: without(own, "encoder.stages.2.layers.1.layer.2"),
            r"5 weights are missing \(first: encoder.stages.2.layers.1.layer.2.convolution.weight",
        ),
    ],
)
def test_what_transformers_cannot_express_is_named(change, message):
    own = TORCHVISION_NAMES.to_ours(resnet(Torchvision, bottleneck=True))
    with pytest.raises(ValueError, match=message):
        infer_config(change(own))


def test_wider_bottlenecks_and_deep_stems_are_named():
    own = TORCHVISION_NAMES.to_ours(resnet(Torchvision, bottleneck=True))
    wide = {name: value for name, value in own.items() if ".layers.0.layer.0." in name or ".layers.0.layer.1." in name}
    doubled = {name: value.repeat_interleave(2, 0) for name, value in wide.items() if value.ndim == 4}
    with pytest.raises(
        ValueError, match=r"no wider bottlenecks.* have another shape .*\(16, 8, 1, 1\) instead of \(8,"
    ):
        infer_config(own | doubled)
    with pytest.raises(ValueError, match=r"detectron2's ResNet .* 'stem.conv2.weight'"):
        DETECTRON2_NAMES.to_ours(resnet(Detectron2, bottleneck=True) | {"stem.conv2.weight": torch.zeros(3)})
