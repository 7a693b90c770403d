"""One network of all classes: each image's class is told to both networks, and looked at by itself."""

import os
import signal
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from scangan.config import ImageGan
from scangan.errors import DataError, TrainingError
from scangan.models.catalogue import build, is_conditional, network_options, read_generator, write_generator
from scangan.models.projected_gan import Discriminator, GatedNorm, Generator, Head
from scangan.synthesis.images import synthesize
from scangan.training import adversarial
from scangan.training.adversarial import make_fabric, train_gan
from scangan.training.conditional import BalancedBatches, train_conditional_gan

RNG = np.random.default_rng(0)
# Of one class there are few.
IMAGES = {name: RNG.random((count, 1, 32, 32), dtype=np.float32) for name, count in (("a", 2), ("b", 5), ("c", 3))}
VALUES = {
    "model": "projected_gan",
    "conditional": True,
    "base_width": 8,
    "batch_size": 4,
    "epochs": 2,
    "sample_rows": 2,
    "horizontal_flip": True,
    "validations": 0,
}
STEPS = 5


@pytest.fixture(autouse=True)
def _few_images_are_drawn(monkeypatch):
    monkeypatch.setattr(adversarial, "VALIDATION_IMAGES", 6)


def train(folder=None, validate=None, images=IMAGES, **values):
    settings = ImageGan.of_kind(VALUES | values)
    return train_conditional_gan(images, settings, make_fabric(settings.precision, 1, "cpu"), folder, validate=validate)


def brightness(images):
    """Stands for a distance: it changes from one validation to the next."""
    return float(images.mean()), 1.0, 0.0


# Which images a batch shows.


@pytest.mark.parametrize(("counts", "batch_size"), [((2, 5, 3), 4), ((1, 7), 16), ((3, 1, 2, 9, 4), 3)])
def test_every_class_as_often_and_each_of_its_images_as_often(counts, batch_size):
    classes = torch.repeat_interleave(torch.tensor(counts))[torch.randperm(sum(counts))]
    batches, rounds = BalancedBatches(classes, seed=0), 2 * np.prod(counts)
    shown = rounds * len(counts)
    drawn = torch.cat([batches.batch(first, batch_size) for first in range(0, shown, batch_size)])[:shown]
    for number, count in enumerate(counts):
        of_class = drawn[classes[drawn] == number].tolist()
        assert len(of_class) == rounds
        assert set(Counter(of_class).values()) == {rounds // count}
        assert all(sorted(of_class[k : k + count]) == sorted(set(of_class)) for k in range(0, rounds, count))
    # Any batch has as many of each class as of the others, but for one.
    of_batch = torch.bincount(classes[batches.batch(0, 6 * len(counts))], minlength=len(counts))
    assert of_batch.tolist() == [6] * len(counts)


def test_a_batch_is_a_function_of_the_images_shown_before():
    classes = torch.tensor([0, 1, 1, 0, 1, 2])
    batches = BalancedBatches(classes, seed=3)
    in_order = [batches.batch(4 * k, 4) for k in range(30)]
    for k in (29, 0, 13, 5):
        assert torch.equal(batches.batch(4 * k, 4), in_order[k])
        assert torch.equal(BalancedBatches(classes, seed=3).batch(4 * k, 4), in_order[k])
    other = BalancedBatches(classes, seed=4)
    assert not torch.equal(torch.cat([other.batch(4 * k, 4) for k in range(30)]), torch.cat(in_order))


def test_processes_share_a_batch():
    classes = torch.tensor([0, 1, 1, 0, 1])
    ranks = [BalancedBatches(classes, 0, rank, 2) for rank in range(2)]
    for k in range(0, 48, 8):
        shares = [rank.batch(k, 8) for rank in ranks]
        assert torch.equal(torch.stack(shares, 1).flatten(), BalancedBatches(classes, 0).batch(k, 8))
        # In neither is a class always alone.
    of_first = torch.cat([classes[ranks[0].batch(8 * k, 8)] for k in range(20)])
    assert 20 < int(of_first.sum()) < 60


# The networks.


def test_a_norm_of_classes_is_the_plain_one_of_each_class_apart_with_a_gain_and_a_shift_of_each():
    torch.manual_seed(0)
    conditional, plain = GatedNorm(3, classes=3), [torch.nn.BatchNorm2d(6) for _ in range(2)]
    torch.nn.init.normal_(conditional.of_class.weight)
    gain, shift = (7 * conditional.of_class.weight.T)[:, :, None, None].chunk(2, 1)
    classes = torch.tensor([0, 1, 1, 0, 1])
    for is_training in (True, True, False):
        conditional.train(is_training)
        maps = 3 * torch.randn(5, 6, 5, 5) + classes[:, None, None, None]
        found = conditional(maps, 7 * F.one_hot(classes, 3).float())
        for number, norm in enumerate(plain):
            of_class = classes == number
            normed = norm.train(is_training)(maps[of_class])
            expected = F.glu(normed * (1 + gain[number]) + shift[number], 1)
            # The plain one keeps the variance of a sample, this one that of the batch as it is.
            near = {"atol": 1e-5, "rtol": 1e-4} if is_training else {"atol": 0.05, "rtol": 0.05}
            torch.testing.assert_close(found[of_class], expected, **near)
    # Of a class that was in no batch nothing was learnt.
    assert torch.equal(conditional.norm.running_mean[2], torch.zeros(6))
    assert torch.equal(conditional.norm.running_var[2], torch.ones(6))


def test_images_of_a_class_differ_however_little_is_made_of_the_noise():
    """Else a network that tells its classes apart may draw one image of each."""
    torch.manual_seed(0)
    generator = Generator(8, 1, 32, classes=2)
    with torch.no_grad():
        generator.first[0].weight[-128:] *= 0.1
        for module in generator.modules():
            if isinstance(module, GatedNorm):
                torch.nn.init.normal_(module.of_class.weight, 0, 0.1)
    noise = generator.draw_latent(64, torch.Generator().manual_seed(0))
    images = generator(generator.with_class(noise, torch.arange(64) % 2))
    one, other = images[::2], images[1::2]
    apart = (one.mean(0) - other.mean(0)).abs().mean()
    assert min(one.std(0).mean(), other.std(0).mean()) > 0.25 * apart


def test_a_head_adds_the_inner_product_of_features_and_the_class():
    torch.manual_seed(0)
    layer, to_logits, embedding = torch.nn.Conv2d(2, 5, 3), torch.nn.Conv2d(5, 1, 1), torch.nn.Linear(3, 5, bias=False)
    head, maps, classes = Head([layer], to_logits, embedding), torch.randn(4, 2, 6, 6), [2, 0, 1, 1]
    features = layer(maps)
    products = torch.einsum("nchw,nc->nhw", features, embedding.weight.T[classes])
    expected = (to_logits(features)[:, 0] + products).flatten(1)
    torch.testing.assert_close(head(maps, F.one_hot(torch.tensor(classes), 3).float()), expected)


@pytest.mark.parametrize("classes", [2, 5])
def test_an_image_is_a_function_of_its_latent_and_class_alone(classes):
    torch.manual_seed(0)
    generator = Generator(8, classes=classes).eval()
    for module in generator.modules():
        if isinstance(module, GatedNorm):
            torch.nn.init.normal_(module.of_class.weight)
    noise = generator.draw_latent(3, torch.Generator().manual_seed(1))
    assert torch.equal(noise, Generator(8).draw_latent(3, torch.Generator().manual_seed(1)))
    labels = torch.tensor([0, classes - 1, 1])
    together = generator(generator.with_class(noise, labels))
    for image, each, label in zip(together, noise, labels.tolist(), strict=True):
        torch.testing.assert_close(generator(generator.with_class(each[None], label))[0], image)
        other = generator(generator.with_class(each[None], (label + 1) % classes))[0]
        assert (other - image).abs().mean() > 1e-3


def test_every_head_judges_an_image_as_one_of_its_class():
    torch.manual_seed(0)
    discriminator, images = Discriminator(8, 1, 64, pixel_discriminator=True, classes=3), torch.rand(2, 1, 64, 64)
    discriminator.eval()
    logits = [discriminator(images, F.one_hot(torch.full((2,), label), 3).float()) for label in range(3)]
    assert logits[0].shape == (2, 4 * 9 + 16)
    for part in range(0, 52, 9):
        assert all(not torch.equal(logits[0][:, part : part + 9], other[:, part : part + 9]) for other in logits[1:])


# The training.


def test_of_real_and_of_generated_images_the_same_classes_are_told(monkeypatch):
    told, judge = [], Discriminator.judge

    def watched(discriminator, seen, one_hot=None):
        told.append((one_hot, len(seen[0])))
        return judge(discriminator, seen, one_hot)

    monkeypatch.setattr(Discriminator, "judge", watched)
    train()
    for one_hot, images in told:
        assert len(one_hot) == images
        of_real, of_generated = one_hot.chunk(2)
        assert torch.equal(of_real, of_generated)
        assert len(one_hot.unique(dim=0)) > 1


def test_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(adversarial, "HISTORY_ROWS", 2)
    measures = dict.fromkeys(IMAGES, brightness)
    whole = train(validate=measures, validations=3)
    assert whole.steps == STEPS
    step = adversarial.AdversarialTraining.step

    def stopped(training):
        step(training)
        if training.step_count == 3:  # within a stretch
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(adversarial.AdversarialTraining, "step", stopped)
        with pytest.raises(TrainingError, match=f"stopped by a signal at step 3 of {STEPS}"):
            train(tmp_path, measures, validations=3)
    resumed = train(tmp_path, measures, validations=3)
    assert resumed.history.step.tolist() == [2, 4, 5]
    assert resumed.history.validation_distance_b.notna().all()
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    histories = [each.history.drop(columns="images_per_second") for each in (whole, resumed)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    np.testing.assert_array_equal(whole.samples, resumed.samples)


def test_the_weights_of_the_least_mean_distance_are_kept_and_each_class_has_its_column():
    # At two validations: b alone would keep the first.
    distances = {"a": [0.5, 0.5], "b": [0.1, 0.3], "c": [0.9, 0.3]}
    waiting = {label: iter(found) for label, found in distances.items()}
    shown = []

    def measure(label):
        def measured(images):
            shown.append((label, images.shape))
            return next(waiting[label]), {"a": 0.9, "b": 0.8, "c": 0.7}[label], 0.0

        return measured

    measures = {label: measure(label) for label in IMAGES}
    history = train(validate=measures, validations=2, epochs=1).history.set_index("step")
    assert shown == 2 * [(label, (adversarial.VALIDATION_IMAGES, 1, 32, 32)) for label in IMAGES]
    validated = history[history.validation_distance.notna()]
    for label, expected in distances.items():
        assert validated[f"validation_distance_{label}"].tolist() == expected
    assert validated.validation_distance.tolist() == pytest.approx([0.5, 1.1 / 3])
    assert validated.diversity.tolist() == pytest.approx([0.8] * 2)
    assert validated.diversity_c.tolist() == [0.7] * 2
    assert history.index[history.kept].tolist() == [2]


def test_generated_images_are_of_the_classes_of_the_real_ones(monkeypatch):
    seen, losses = [], adversarial.ProjectedTraining.discriminator_losses

    def watched(training, real, fake):
        one_hot = training.latent[:, :3]
        seen.append((training.batch_classes, one_hot.argmax(1), training.one_hot.argmax(1)))
        return losses(training, real, fake)

    make = adversarial.AdversarialTraining._latent

    def remember(training, images):
        noise = make(training, images)
        training.latent = training.generator.with_class(noise, training.batch_classes)
        return noise

    monkeypatch.setattr(adversarial.AdversarialTraining, "_latent", remember)
    monkeypatch.setattr(adversarial.ProjectedTraining, "discriminator_losses", watched)
    train(epochs=1)
    for real, generated, judged in seen:
        assert torch.equal(real, generated)
        assert torch.equal(real, judged)


def test_samples_have_a_row_for_each_class_at_each_moment_from_the_same_noise(monkeypatch):
    torch.manual_seed(0)
    trained = train(epochs=1)
    assert trained.samples.shape == (2 * 3, adversarial.SAMPLE_COLUMNS, 1, 32, 32)
    generator = Generator(8, 1, 32, pixel_discriminator=True, classes=3).eval()
    generator.load_state_dict(trained.weights)
    noise = generator.draw_latent(adversarial.SAMPLE_COLUMNS, torch.Generator().manual_seed(0))
    for label, row in enumerate(trained.samples[-3:]):
        drawn = generator(generator.with_class(noise, label)).detach().numpy()
        assert np.abs((drawn + 1) / 2 * 255 - row).max() <= 0.51


def test_a_class_that_collapsed_is_told_though_the_others_did_not(monkeypatch):
    whole = Generator.forward

    def forward(self, latent):
        images, of_b = whole(self, latent), latent[:, 1] > 0
        return torch.where(of_b[:, None, None, None], images.mean(0), images)

    monkeypatch.setattr(Generator, "forward", forward)
    with pytest.raises(TrainingError, match=r"^step 3: the generator collapsed: its images of class b .* 0\.00%"):
        train(batch_size=8, epochs=4)


def test_a_class_that_may_be_collapsing_is_told_early(caplog):
    measures = {label: lambda images, label=label: (1.0, 0.3 if label == "c" else 0.9, 0.0) for label in IMAGES}
    train(validate=measures, validations=1, epochs=1)
    told = [record.getMessage() for record in caplog.records if "collapsing" in record.getMessage()]
    expected = "the generator's images of class c differ from each other by 30% of what real ones do"
    assert told == [f"step 2: {expected}: it may be collapsing"]


def test_it_learns_what_tells_the_classes():
    """Dark images and bright ones, told apart by their class alone."""
    images = {"dark": 0.4 * RNG.random((4, 1, 32, 32)), "bright": 0.6 + 0.4 * RNG.random((4, 1, 32, 32))}
    images = {label: each.astype(np.float32) for label, each in images.items()}
    rates = {"learning_rate_generator": 5e-3, "learning_rate_discriminator": 5e-3, "ema_decay": 0.5}
    trained = train(images=images, epochs=4, diffaugment={"kinds": []}, **rates)
    dark, bright = trained.samples[-2:].mean((1, 2, 3, 4))
    assert bright - dark > 10


@pytest.mark.parametrize(
    "values",
    [
        {"pixel_discriminator": False},
        {"loss": "bce", "discriminator_steps": 2},
        {"precision": "bf16-mixed"},
        {"batch_size": 2},  # fewer than there are classes
    ],
    ids=str,
)
def test_every_option_trains(values):
    trained = train(epochs=1, **values)
    assert np.isfinite(trained.history.to_numpy()).all()
    assert all(tensor.isfinite().all() for tensor in trained.weights.values())


def test_a_network_of_one_class_and_one_of_several_are_trained_each_by_its_own():
    fabric, settings = make_fabric("32-true", 1, "cpu"), ImageGan.of_kind(VALUES)
    with pytest.raises(TrainingError, match=r"^conditional: found true, allowed: false for a network of one class$"):
        train_gan(IMAGES["a"], settings, fabric)
    with pytest.raises(TrainingError, match=r"^conditional: found true and 1 classes, allowed: true, and at least 2$"):
        train_conditional_gan({"a": IMAGES["a"]}, settings, fabric)
    with pytest.raises(TrainingError, match=r"^conditional: found false and 3 classes"):
        train(conditional=False)


# What is kept of it.


def kept(folder):
    torch.manual_seed(0)
    settings = ImageGan.of_kind(VALUES)
    generator, _ = build("projected_gan", 1, 32, **network_options(settings), classes=2)
    for module in generator.modules():
        if isinstance(module, GatedNorm):
            torch.nn.init.normal_(module.of_class.weight)
    files = folder / "generator.safetensors", folder / "generator.json"
    facts = {"model": "projected_gan", "channels": 1, "image_size": 32, "options": network_options(settings)}
    facts |= {"gan": "one", "data": "phantom", "classes": ["covid", "non_covid"]}
    write_generator(*files, generator.state_dict(), **facts)
    return generator, files


def test_a_class_is_drawn_by_its_name(tmp_path):
    generator, files = kept(tmp_path)
    assert is_conditional(files[1])
    for number, label in enumerate(("covid", "non_covid")):
        read, facts = read_generator(*files, label=label)
        ((drawn, rows),) = synthesize(read, facts, 6, 3, 3)
        assert rows.label.tolist() == [label] * 3
        assert rows.image_id.tolist() == [f"one-{label}-{seed}" for seed in (6, 7, 8)]
        noise = generator.draw_latent(1, torch.Generator().manual_seed(7))
        alone = generator.eval()(generator.with_class(noise, number)).detach().numpy()
        np.testing.assert_allclose(drawn[1], (alone[0] + 1) / 2, atol=1e-5)


def test_an_unknown_class_is_refused_in_one_line(tmp_path):
    _, files = kept(tmp_path)
    with pytest.raises(DataError, match=r"generator\.json: label: found 'flu', allowed: covid \| non_covid$"):
        read_generator(*files, label="flu")
