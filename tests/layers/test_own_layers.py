# SPDX-License-Identifier: Apache-2.0
import torch
from torch import nn

from unisegment.layers.linear import Linear
from unisegment.layers.own_layers import is_untouched, use_own_layers


class Special(nn.Linear):
    pass


def test_only_layers_of_the_very_class_are_turned_and_hooks_and_weights_stay():
    module = nn.Sequential(Special(2, 3), nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5)))
    module[1].register_forward_hook(lambda module, inputs, result: 0 * result)
    before = module.state_dict()
    use_own_layers(module, {nn.Linear: Linear})
    assert [type(child) for child in (module[0], module[1], module[2][0])] == [Special, Linear, Linear]
    assert module.state_dict().keys() == before.keys()
    torch.testing.assert_close(module(torch.randn(7, 2)), module[2][0].bias.expand(7, -1))


def test_whoever_wants_to_see_a_module_called_touches_it():
    layer = nn.Linear(2, 3)
    assert is_untouched(layer, nn.Linear)
    assert not is_untouched(Special(2, 3), nn.Linear)
    for register in (layer.register_forward_hook, layer.register_forward_pre_hook):
        hook = register(print)
        assert not is_untouched(layer, nn.Linear)
        hook.remove()
        assert is_untouched(layer, nn.Linear)
    layer.forward = layer.forward
    assert not is_untouched(layer, nn.Linear)
