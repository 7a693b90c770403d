"""The training of the nodule injector and eraser: what the networks are shown, what is learnt, and exact resuming."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from scangan.config import NoduleNetwork, Voi
from scangan.ct.forms import draw_forms
from scangan.ct.grids import sphere
from scangan.ct.window import to_network
from scangan.data.voi import VoiSet
from scangan.errors import ConfigError, DataError, TrainingError
from scangan.metrics.nodules import measure_diameters
from scangan.models.catalogue import build
from scangan.models.nodule_cgan import (
    EXAMPLES,
    dilate,
    distance_mm,
    form_mask,
    grey_of,
    lung_level,
    put_in,
    sketch,
    sphere_mask,
)
from scangan.synthesis.nodules import fill
from scangan.training import adversarial
from scangan.training.adversarial import SAMPLE_COLUMNS, make_fabric
from scangan.training.nodules import (
    ROOM,
    WHOLE,
    NoduleTraining,
    Pairs,
    fit_blur,
    largest_radius,
    nodule_network_options,
    random_turn,
    random_zoom,
    told_up_to_mm,
    train_nodule_gan,
)
from scangan.training.nodules import (
    eraser_pairs as pairs_of_eraser,
)

SIZE, SPACING_MM, MARGIN_MM = 16, 2.0, 4.0
LUNG, NODULE = -850.0, 20.0
STEPS = 12


def draw(count, nodules=True, seed=0):
    """VOIs of noisy lung with a wall, with or without a ball at the centre, and the radii of the balls."""
    rng = np.random.default_rng(seed)
    radii_mm = rng.uniform(4, 10, count).astype(np.float32)
    vois = LUNG + rng.normal(0, 20, (count, SIZE, SIZE, SIZE))
    vois[:, :, :2] = NODULE
    if nodules:
        away = distance_mm(SIZE, SPACING_MM).numpy()
        shares = (0.5 + (radii_mm[:, None, None, None] - away) / SPACING_MM).clip(0, 1)
        vois += shares * (NODULE - vois)
    return vois.astype(np.float32), radii_mm


def injector_pairs(count=12):
    nodules, radii_mm = draw(count)
    return Pairs(nodules, nodules, radii_mm, *draw(7, nodules=False, seed=1), balls(radii_mm))


def balls(radii_mm):
    return np.stack([sphere(SIZE, SPACING_MM, radius_mm) for radius_mm in radii_mm])


def eraser_pairs(count=12):
    (nodules, radii_mm), (healthy, _) = draw(count), draw(count, nodules=False)
    inside = np.stack([sphere(SIZE, SPACING_MM, radius_mm + MARGIN_MM) for radius_mm in radii_mm])
    return Pairs(np.where(inside, nodules, healthy), healthy, radii_mm)


PAIRS = {"injector": injector_pairs, "eraser": eraser_pairs}


VOI = Voi(size=SIZE, spacing_mm=SPACING_MM, margin_mm=MARGIN_MM, diameters_mm=(4, 24))


def settings(**values):
    return NoduleNetwork(**{"base_width": 2, "steps": STEPS, "batch_size": 4, "zoom": 1.2, "sample_rows": 3} | values)


def train(folder=None, checkpoint_seconds=0.0, pairs=None, kind="injector", **values):
    wanted, fabric = settings(**values), make_fabric(values.get("precision", "32-true"), 1, "cpu")
    pairs = PAIRS[kind]() if pairs is None else pairs
    return train_nodule_gan(kind, pairs, wanted, VOI, fabric, folder, checkpoint_seconds)


def game(pairs=None, kind="injector", **values):
    """A training that has not begun."""
    wanted = settings(**values)
    torch.manual_seed(0)
    networks = build("nodule_cgan", 1, SIZE, **nodule_network_options(kind, wanted, VOI))
    fabric = make_fabric("32-true", 1, "cpu")
    return NoduleTraining(fabric, *networks, PAIRS[kind]() if pairs is None else pairs, wanted, VOI)


def first_batch(training):
    return training._real_batch(0, training.schedule.at(0))


@pytest.fixture(autouse=True)
def _one_thread_and_stretches_of_three_steps(monkeypatch):
    monkeypatch.setattr(adversarial, "HISTORY_ROWS", STEPS // 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Resuming.


@pytest.mark.parametrize("kind", ["injector", "eraser"])
@pytest.mark.parametrize("last_step", [5, 9])
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(tmp_path, monkeypatch, kind, last_step):
    whole = train(kind=kind)
    step = NoduleTraining.step

    def power_fails(training):
        if training.step_count == last_step:
            raise KeyboardInterrupt
        step(training)

    with monkeypatch.context() as patch:
        patch.setattr(NoduleTraining, "step", power_fails)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, kind=kind)
    torch.manual_seed(99)
    resumed = train(tmp_path, kind=kind)
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    histories = [one.history.drop(columns="images_per_second") for one in (whole, resumed)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    np.testing.assert_array_equal(whole.samples, resumed.samples)


def test_what_a_training_leaves_behind():
    trained = train()
    assert trained.steps == STEPS
    assert trained.history.step.tolist() == [3, 6, 9, 12]
    assert {"loss_d", "loss_g", "d_real", "d_fake", "reconstruction"} <= set(trained.history)
    assert trained.samples.shape == (3, SAMPLE_COLUMNS, 1, SIZE, SIZE)
    assert trained.samples.dtype == np.uint8


# What the networks are shown.


@pytest.mark.parametrize("kind", ["injector", "eraser"])
def test_a_batch_is_pairs_alike_outside_the_mask(kind):
    training = game(kind=kind)
    seen = first_batch(training)
    voi, mask, radius_mm, target, form, grain, grey = training.batch
    told = (target, voi, mask.float(), radius_mm[:, None, None, None, None].expand_as(voi))
    assert torch.equal(seen, torch.cat(told, 1))
    assert torch.equal(voi[~mask], target[~mask])
    assert not torch.equal(voi[mask], target[mask])
    if kind == "injector":
        assert torch.equal(mask, form_mask(form, radius_mm, MARGIN_MM, SPACING_MM))
        torch.testing.assert_close(grey, grey_of(target, mask, form))
        torch.testing.assert_close(voi, sketch(voi, mask, form, grey))
    else:
        assert torch.equal(mask, sphere_mask(radius_mm + MARGIN_MM, SIZE, SPACING_MM))
        assert torch.equal(form, sphere_mask(radius_mm, SIZE, SPACING_MM).float())
        # Zoomed, white noise is smoothed, that of the VOI and what is drawn alike.
        assert training.grains.std() == pytest.approx(20 / 700, rel=0.1)
        assert 0 < grain.std() < training.grains.std()
    assert (training.healthy_batches is None) == (kind == "eraser")


def test_the_order_of_the_nodules_and_their_radii_stay_together():
    pairs = injector_pairs()
    nodules, radii_mm = pairs.targets, pairs.radii_mm
    training = game(pairs, zoom=1.0)
    indices = training.batches.batch(0, 4)
    first_batch(training)
    assert torch.equal(training.batch.radius_mm, torch.from_numpy(radii_mm)[indices])
    # Mirroring and turning by quarters leaves the values as they are.
    expected = torch.from_numpy(to_network(nodules))[indices]
    assert torch.equal(training.batch.target.flatten(1).sort(1).values, expected.flatten(1).sort(1).values)


def test_an_eraser_is_told_spheres_larger_than_the_nodules():
    pairs = eraser_pairs(40)
    training = game(pairs, kind="eraser", zoom=1.0, batch_size=40)
    first_batch(training)
    largest_mm = SIZE * SPACING_MM / 2 - MARGIN_MM
    ratio = training.batch.radius_mm / torch.from_numpy(pairs.radii_mm)[training.batches.batch(0, 40)]
    whole = training.batch.radius_mm < largest_mm
    assert training.batch.radius_mm.max() <= largest_mm
    assert 0 < (~whole).sum() < 20
    assert ratio.min() >= 1
    assert ratio.max() <= ROOM
    assert ratio[whole].max() - ratio[whole].min() > 0.8 * (ROOM - 1)


def test_what_networks_are_told_of_ends_with_their_spheres_or_with_the_vois():
    plain, zoomed = settings(zoom=1.0), settings(zoom=1.5)
    vois, radii_mm = draw(3)
    eraser, injector = (
        Pairs(vois, vois, np.array(radii), vois, radii_mm, forms)
        for radii, forms in (([3.0, 7.0, 5.0], None), ([3.0, 6.0, 5.0], balls(radii_mm)))
    )
    eraser = replace(eraser, healthy=None, healthy_radii_mm=None)
    injector.healthy_radii_mm[:] = [4, 7, 5]
    assert told_up_to_mm(injector, plain, VOI) == 14
    assert told_up_to_mm(injector, zoomed, VOI) == 21
    assert told_up_to_mm(eraser, plain, VOI) == pytest.approx(14 * ROOM)
    assert told_up_to_mm(eraser, zoomed, VOI) == 24  # of VOIs of 32 mm, less two margins


def test_the_discriminator_compares_real_nodules_with_those_put_into_healthy_vois(monkeypatch):
    training = game()
    real = first_batch(training)
    fake = training._generate(4)
    put_in_place, healthy = fake.detach()[:, :1], training.healthy_batch
    # Untrained, a generator makes its sketch.
    torch.testing.assert_close(training.filled, training.batch.voi)
    put = put_in(healthy.target, healthy.mask, healthy.form, healthy.grey, healthy.voi, healthy.voi)
    torch.testing.assert_close(training.put_in, put)
    changed = put_in_place - put
    assert not changed[~healthy.mask].any()
    whole = healthy.mask & (healthy.form == 1)
    torch.testing.assert_close(changed[whole], healthy.grain[whole])
    assert changed[whole].std() == pytest.approx(20 / 700, rel=0.3)
    seen = []
    monkeypatch.setattr(
        training.discriminator, "forward", lambda *told: seen.append(told) or torch.zeros(4, requires_grad=True)
    )
    training.discriminator_losses(real, fake.detach())
    training.generator_losses(fake.detach())
    for told, batch, image in zip(
        seen, (training.batch, healthy, healthy), (training.batch.target, put_in_place, put_in_place), strict=True
    ):
        for found, expected in zip(told, (*batch[:3], image), strict=True):
            assert torch.equal(found, expected)


def test_an_eraser_pays_for_what_it_need_not_replace_with_the_grain_drawn_for_it():
    training = game(kind="eraser")
    first_batch(training)
    fake = training._generate(4)
    batch, share = training.batch, 1 / (1 + np.exp(3))
    # Untrained, it replaces that share of the whole mask by even lung.
    smooth = torch.lerp(batch.voi, lung_level(batch.voi, batch.mask).expand_as(batch.voi), share)
    grainy = (smooth + (share * (2 - share)) ** 0.5 * batch.grain).clamp(-1, 1)
    torch.testing.assert_close(training.filled, torch.where(batch.mask, grainy, batch.voi))
    assert torch.equal(fake[:, :1], training.filled)


def test_the_reconstruction_is_the_weighted_difference_inside_the_masks():
    training = game(inside_weight=3.0, reconstruction_weight=7.0)
    first_batch(training)
    fake = training._generate(4)
    losses = training.generator_losses(fake)

    def differences(filled, batch, weights):
        for voi, truth, weight in zip(filled[:, 0], batch.target[:, 0], weights[:, 0], strict=True):
            difference, weight = (voi - truth).detach().numpy(), weight.numpy()
            along = [(np.abs(np.diff(difference, axis=axis)) * np.delete(weight, 0, axis)).sum() for axis in range(3)]
            yield ((np.abs(difference) * weight).sum() + sum(along)) / weight.sum()

    batch, healthy = training.batch, training.healthy_batch
    within = torch.where(batch.form >= WHOLE, batch.target, batch.voi)
    assert not torch.equal(within, batch.target)
    expected = [
        # On the surface, and beyond it, the sketch stays.
        *differences(
            training.filled, batch._replace(target=within), torch.where(batch.form >= 0.5, 3.0, 1.0) * batch.mask
        ),
        # What the form holds there is free, as far as a voxel beyond its surface.
        *differences(training.put_in, healthy, (healthy.mask & ~dilate(healthy.form, 1)).float()),
    ]
    assert len(expected) == 8
    assert losses["reconstruction"].item() == pytest.approx(np.mean(expected), rel=1e-5)
    adversarial_loss = super(NoduleTraining, training).generator_losses(fake)["loss_g"]
    assert losses["loss_g"].item() == pytest.approx((adversarial_loss + 7 * losses["reconstruction"]).item(), rel=1e-5)


def test_the_rim_of_a_form_teaches_in_the_narrowest_margin():
    """Of a margin of two voxels there is a voxel beyond the surface for every radius."""
    for radius_mm in torch.linspace(2, SIZE * SPACING_MM / 2 - 2 * SPACING_MM, 40)[:, None]:
        form = sphere_mask(radius_mm, SIZE, SPACING_MM).float()
        assert (form_mask(form, radius_mm, 2 * SPACING_MM, SPACING_MM) & ~dilate(form, 1)).any()


def test_an_injector_keeps_the_sizes_and_grey_values_of_its_nodules():
    nodules, radii_mm = draw(12)
    training = game(Pairs(nodules, nodules, radii_mm, forms=balls(radii_mm)))
    for network in (training.generator, training.average.average):
        radii, greys = network.examples.numpy().T
        assert len(radii) == EXAMPLES
        assert set(radii) == set(radii_mm)
        # A ball's voxels on the surface hold lung as well.
        assert (np.abs(greys - to_network(np.float32(NODULE))) < 0.2).all()


@pytest.mark.parametrize("blur_mm", [0.8, 1.4])
def test_the_sharpness_of_nodules_is_found_again(blur_mm):
    """Of nodules painted with a known blur into noisy lung, and healthy VOIs beside them."""
    nodules, radii_mm = draw(40, nodules=False, seed=3)
    forms = draw_forms(np.random.default_rng(0), radii_mm.tolist(), SIZE, SPACING_MM, blur_mm)
    grain = np.random.default_rng(1).normal(0, 20, nodules.shape)
    nodules += forms * (NODULE - nodules) + np.sqrt(forms * (2 - forms)) * grain
    healthy, healthy_radii_mm = draw(40, nodules=False, seed=4)
    tables = [
        pd.DataFrame({"equivalent_diameter_mm": 2 * radii, "spacing_mm": SPACING_MM})
        for radii in (radii_mm, healthy_radii_mm)
    ]
    found = fit_blur(VoiSet(nodules, tables[0]), VoiSet(healthy, tables[1]), forms)
    assert found == pytest.approx(blur_mm, abs=0.15)


# Augmentation.


def test_turns_are_the_symmetries_of_a_box_with_an_axis():
    torch.manual_seed(0)
    vois = torch.rand(1, 1, 4, 4, 4).expand(200, 2, 4, 4, 4)
    turned = random_turn(vois)
    assert torch.equal(turned[:, 0], turned[:, 1])
    allowed = {
        tuple(np.rot90(vois[0, 0].numpy(), quarters, (1, 2))[::z, ::y, ::x].ravel())
        for quarters, z, y, x in product(range(4), (1, -1), (1, -1), (1, -1))
    }
    assert len(allowed) == 16
    assert {tuple(voi.ravel().tolist()) for voi in turned[:, 0].double()} == {tuple(map(float, voi)) for voi in allowed}


def test_a_zoomed_ball_has_the_zoomed_radius():
    torch.manual_seed(0)
    radius_mm = torch.linspace(4, 9, 64)
    balls = (0.5 + (radius_mm[:, None, None, None, None] - distance_mm(24, 2.0)) / 2).clamp(0, 1)
    zoomed, new_mm = random_zoom(balls, radius_mm, 1.5, 10.0)
    factor = new_mm / radius_mm
    assert factor.min() >= 1 / 1.5
    assert factor.max() <= 1.5
    assert factor.log().std() > 0.15
    assert new_mm.max() == pytest.approx(10)
    measured = (zoomed.sum((1, 2, 3, 4)) * 8 * 3 / (4 * np.pi)) ** (1 / 3)
    torch.testing.assert_close(measured, new_mm, rtol=0.08, atol=0)
    assert (measured / new_mm).median() == pytest.approx(1, abs=0.01)


def test_no_zoom_changes_nothing():
    vois, radius_mm = torch.rand(2, 1, 8, 8, 8), torch.tensor([3.0, 4.0])
    assert random_zoom(vois, radius_mm, 1, 5.0) == (vois, radius_mm)


# What is learnt.


def trained_generator(trained, kind):
    network, _ = build("nodule_cgan", 1, SIZE, **nodule_network_options(kind, settings(**LEARN), VOI))
    network.load_state_dict(trained.weights)
    return network.eval()


LEARN = {
    "base_width": 8,
    "steps": 60,
    "learning_rate_generator": 3e-3,
    "learning_rate_discriminator": 1e-3,
    "reconstruction_weight": 20.0,
    "ema_decay": 0.9,
}


@pytest.fixture(scope="module")
def injector():
    return trained_generator(train(pairs=injector_pairs(24), **LEARN), "injector")


@pytest.fixture(scope="module")
def eraser():
    return trained_generator(train(kind="eraser", pairs=eraser_pairs(24), **LEARN), "eraser")


def test_the_injector_learns_the_asked_radius(injector):
    healthy, _ = draw(9, nodules=False, seed=5)
    asked_mm = np.linspace(5, 9, 9)
    filled = fill(injector, healthy, asked_mm, MARGIN_MM, SPACING_MM, range(9))
    around = np.stack([sphere(SIZE, SPACING_MM, radius_mm + MARGIN_MM) for radius_mm in asked_mm])
    volumes = ((filled > (LUNG + NODULE) / 2) & around).sum((1, 2, 3)) * SPACING_MM**3
    got_mm = (volumes * 3 / (4 * np.pi)) ** (1 / 3)
    assert np.median(np.abs(got_mm / asked_mm - 1)) < 0.1
    assert np.corrcoef(got_mm, asked_mm)[0, 1] > 0.97


def test_the_eraser_learns_to_leave_the_rest_alone(eraser):
    (nodules, radii_mm), (healthy, _) = draw(6, seed=7), draw(6, nodules=False, seed=7)
    erased = fill(eraser, nodules, radii_mm, MARGIN_MM, SPACING_MM, range(6))
    inside = np.stack([sphere(SIZE, SPACING_MM, radius_mm + MARGIN_MM) for radius_mm in radii_mm])
    before, after = (np.abs(voi - healthy)[inside].mean() for voi in (nodules, erased))
    assert before > 200
    assert after < 45


def test_an_eraser_told_too_large_a_sphere_takes_the_nodule_alone(eraser):
    """As of an outline, or a long nodule: what lies beside it in the sphere is lung already.

    Told of spheres of their size alone, the same training leaves 100 HU too little in all of them.
    """
    (nodules, radii_mm), (healthy, _) = draw(6, seed=7), draw(6, nodules=False, seed=7)
    told_mm = (radii_mm * 1.3).clip(max=SIZE * SPACING_MM / 2 - MARGIN_MM)
    erased = fill(eraser, nodules, told_mm, MARGIN_MM, SPACING_MM, range(6))
    for voi, truth, radius_mm in zip(erased, healthy, told_mm, strict=True):
        assert (voi - truth)[sphere(SIZE, SPACING_MM, radius_mm)].mean() == pytest.approx(0, abs=80)


def test_erased_and_injected_again_there_is_a_nodule_again(injector, eraser):
    """At the same place, with the same radius; by segmentation."""
    nodules, _ = draw(6, seed=7)
    radii_mm = np.random.default_rng(7).uniform(4, 10, 6)  # those of `draw`
    erased = fill(eraser, nodules, radii_mm, MARGIN_MM, SPACING_MM, range(6))
    again = fill(injector, erased, radii_mm, MARGIN_MM, SPACING_MM, range(6))
    gone = [np.isnan(measure_diameters(voi, SPACING_MM).equivalent) for voi in erased]
    got_mm = np.array([measure_diameters(voi, SPACING_MM).equivalent for voi in again])
    assert np.mean(gone) > 0.5
    assert np.isfinite(got_mm).all()
    assert np.median(np.abs(got_mm / (2 * radii_mm) - 1)) < 0.2


# What goes wrong.


def test_a_network_is_an_injector_or_an_eraser():
    with pytest.raises(ConfigError) as error:
        train(kind="painter", pairs=injector_pairs())
    assert str(error.value) == "nodule_gan: kind: found painter, allowed: injector | eraser"


def test_a_nodule_beyond_its_voi_is_named():
    vois, radii_mm = draw(3)
    assert largest_radius(SIZE, VOI) == 12
    with pytest.raises(DataError, match=r"radii_mm: found 5 to 13, allowed: above 0, up to 12$"):
        train(pairs=Pairs(vois, vois, np.array([5, 13, 6.0])))
    with pytest.raises(DataError, match=r"healthy_radii_mm: found 0 to 6, allowed: above 0, up to 12$"):
        train(pairs=Pairs(vois, vois, radii_mm, vois, np.array([0, 5, 6.0])))


def test_no_pairs_and_pairs_that_do_not_fit_are_refused():
    vois, radii_mm = draw(3)
    with pytest.raises(DataError, match=r"pairs: found none, allowed: at least 1$"):
        train(pairs=Pairs(vois[:0], vois[:0], radii_mm[:0]))
    with pytest.raises(ValueError, match="do not fit"):
        Pairs(vois, vois[:2], radii_mm)
    with pytest.raises(ValueError, match="do not fit"):
        Pairs(vois, vois, radii_mm[:2])
    with pytest.raises(ValueError, match=r"forms .* do not fit"):
        Pairs(vois, vois, radii_mm, forms=vois[:2])
    for healthy, healthy_radii_mm in ((vois[:0], radii_mm[:0]), (vois[:, 1:], radii_mm), (vois, None)):
        with pytest.raises(ValueError, match=r"healthy .* do not fit"):
            Pairs(vois, vois, radii_mm, healthy, healthy_radii_mm)


def test_a_voi_of_another_size_is_refused():
    vois = np.zeros((3, 20, 20, 20), np.float32)
    with pytest.raises(ConfigError, match=r"image_size: found 20, allowed with nodule_cgan: 16, 24"):
        train(pairs=Pairs(vois, vois, np.full(3, 4.0)))


def test_nan_is_named():
    vois, radii_mm = draw(12)
    vois[5, 8, 8, 8] = np.nan
    with pytest.raises(TrainingError, match=r"^step 3: .*loss_d.* is not a number"):
        train(pairs=Pairs(vois, vois, radii_mm))


def test_an_eraser_is_shown_some_places_without_a_nodule_which_shall_stay_as_they_are():
    table = pd.DataFrame({"equivalent_diameter_mm": np.arange(6.0, 16.0)})
    healthy = VoiSet(np.random.default_rng(0).normal(-800, 50, (10, SIZE, SIZE, SIZE)).astype(np.float32), table)
    injected = VoiSet(healthy.voxels + 500, table)
    pairs = pairs_of_eraser(injected, healthy)
    assert np.array_equal(pairs.shown[:10], injected.voxels)
    assert np.array_equal(pairs.targets[:10], healthy.voxels)
    for voxels in (pairs.shown, pairs.targets):
        assert np.array_equal(voxels[10:], healthy.voxels[[0, 4, 8]])
    assert pairs.radii_mm[10:].tolist() == [3.0, 5.0, 7.0]
