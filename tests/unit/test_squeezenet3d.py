"""SqueezeNet in 3D: its numbers of parameters against torchvision's SqueezeNet 1.1, its shapes, its sizes."""

import pytest
import torch
from torch import nn

import scangan.compat  # noqa: F401  (prepares torchvision)
from scangan.models.squeezenet3d import SMALLEST, Fire, SqueezeNet3d


def convolutions(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def test_parameters_are_those_of_the_2d_network_with_cubes_for_squares_layer_by_layer():
    from torchvision.models import squeezenet1_1

    flat, deep = convolutions(squeezenet1_1(), nn.Conv2d), convolutions(SqueezeNet3d(batch_norm=False), nn.Conv3d)
    assert len(flat) == len(deep) == 26
    for number, (before, ours) in enumerate(zip(flat, deep, strict=True)):
        inputs = 1 if number == 0 else before.in_channels  # grey, not colour
        outputs = 1 if number == 25 else before.out_channels  # one logit, not 1000 classes
        edge = before.kernel_size[0]
        assert sum(value.numel() for value in ours.parameters()) == edge**3 * inputs * outputs + outputs
        assert (ours.stride, ours.padding) == (before.stride[:1] * 3, before.padding[:1] * 3)


def test_pools_and_activations_lie_where_the_2d_network_has_them():
    from torchvision.models import squeezenet1_1

    def kinds(features):
        return [type(module).__name__.replace("3d", "").replace("2d", "") for module in features]

    flat, deep = squeezenet1_1().features, SqueezeNet3d(batch_norm=False).features
    assert kinds(flat) == kinds(deep)
    for before, ours in zip(flat, deep, strict=True):
        if isinstance(before, nn.MaxPool2d):
            facts = ("kernel_size", "stride", "padding", "ceil_mode")
            assert [getattr(ours, name) for name in facts] == [getattr(before, name) for name in facts]


def test_a_volume_that_is_the_same_in_every_slice_gives_the_2d_networks_answer():
    """Weights in one plane of each kernel, and a volume constant across it: then 3D is 2D, slice by slice."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    flat, deep = squeezenet1_1(num_classes=1).eval(), SqueezeNet3d(batch_norm=False).eval()
    flat.features[0] = nn.Conv2d(1, 64, 3, stride=2)
    for before, ours in zip(convolutions(flat, nn.Conv2d), convolutions(deep, nn.Conv3d), strict=True):
        nn.init.zeros_(ours.weight)
        ours.weight.data[:, :, ours.kernel_size[0] // 2] = before.weight.data
        ours.bias.data = before.bias.data
    image = torch.rand(2, 1, 64, 64)
    volume = image[:, :, None].expand(-1, -1, 64, -1, -1)
    expected = flat.classifier[1](flat.features(image)).mean((1, 2, 3))  # without the ReLU before the average
    torch.testing.assert_close(deep(volume), expected, rtol=1e-4, atol=1e-6)


def test_the_table_of_the_docstring_holds_at_224():
    with torch.device("meta"):
        network, x = SqueezeNet3d(batch_norm=False), torch.empty(1, 1, 224, 224, 224)
        rows = []
        for layer in network.features:
            x = layer(x)
            if not isinstance(layer, nn.ReLU):
                rows.append((f"{x.shape[1]} x {x.shape[2]}^3", sum(value.numel() for value in layer.parameters())))
        assert network.classifier(x).shape == (1,)
    rows.append(("1", 513))
    lines = [line for line in SqueezeNet3d.__doc__.splitlines() if line.strip().startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    told = [(output, int(parameters.replace(",", "") or 0)) for _, output, parameters in cells]
    total = sum(value.numel() for value in network.parameters())
    assert told == [*rows, ("", total)]


@pytest.mark.parametrize("size", [SMALLEST, 32, 33, 40])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_small_volumes_pass_and_every_weight_learns(size, batch_norm):
    torch.manual_seed(0)
    network = SqueezeNet3d(batch_norm, dropout=0.0)
    logits = network(torch.rand(2, 1, size, size, size))
    assert logits.shape == (2,)
    logits.square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in network.parameters() if value.ndim > 1)


def test_batch_norm_takes_the_place_of_the_bias():
    plain, normed = (SqueezeNet3d(batch_norm) for batch_norm in (False, True))
    outputs = sum(module.out_channels for module in convolutions(plain, nn.Conv3d)[:-1])
    counts = [sum(value.numel() for value in network.parameters()) for network in (plain, normed)]
    assert counts[1] - counts[0] == outputs == 2944
    assert [module.bias is None for module in convolutions(normed, nn.Conv3d)] == [True] * 25 + [False]


def test_layers_last_in_memory_give_the_same_logits():
    torch.manual_seed(0)
    network, volumes = SqueezeNet3d().eval(), torch.rand(2, 1, 32, 32, 32)
    expected = network(volumes)
    network.to(memory_format=torch.channels_last_3d)
    outputs = []
    network.features[4].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    torch.testing.assert_close(network(volumes), expected, rtol=1e-4, atol=1e-5)
    assert isinstance(network.features[4], Fire)
    assert outputs[0].is_contiguous(memory_format=torch.channels_last_3d)


def test_another_shape_is_refused():
    with pytest.raises(AssertionError, match=r"x: found \(1, 1, 32, 32, 16\), allowed: \[N, 1, S, S, S\]"):
        SqueezeNet3d()(torch.zeros(1, 1, 32, 32, 16))


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("base_width", [8, 10, 64])
def test_width_and_stem_keep_the_layers(stem, base_width):
    network, whole = SqueezeNet3d(base_width=base_width, stem=stem), SqueezeNet3d()
    assert len(network.features) == len(whole.features)
    widths = [[m.out_channels for m in one.modules() if isinstance(m, nn.Conv3d)] for one in (network, whole)]
    for own, full in zip(*widths, strict=True):
        assert abs(own - full * base_width / 64) <= 1
    assert network.eval()(torch.zeros(1, 1, 32, 32, 32)).shape == (1,)


def test_the_small_stem_keeps_twice_as_many_voxels_along_each_edge():
    small, whole = (SqueezeNet3d(base_width=4, stem=stem).eval().features for stem in ("small", "imagenet"))
    volumes = torch.zeros(1, 1, 64, 64, 64)
    assert small[:5](volumes).shape[-1] == 31
    assert whole[:5](volumes).shape[-1] == 15
