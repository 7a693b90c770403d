"""The grid of samples over time, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from scangan.report.samples import write_sample_grid


def grid(samples, path, **options):
    write_sample_grid(samples, path, **options)
    return np.array(Image.open(path))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_each_pixel_is_where_its_time_and_noise_are(tmp_path, channels, mode):
    samples = np.random.default_rng(0).integers(0, 255, (2, 3, channels, 4, 5), dtype=np.uint8)
    pixels = grid(samples, tmp_path / "grid.png", gap=2, tile=10)
    assert Image.open(tmp_path / "grid.png").mode == mode
    assert pixels.shape[:2] == (2 * (4 * 2 + 2), 3 * (5 * 2 + 2))
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    for row in range(2):
        for column in range(3):
            tile = pixels[row * 10 : row * 10 + 8, column * 12 : column * 12 + 10]
            expected = np.moveaxis(samples[row, column], 0, -1)
            for y in (0, 1):
                for x in (0, 1):
                    np.testing.assert_array_equal(tile[y::2, x::2], expected)
    assert (pixels[8:10] == 255).all()
    assert (pixels[:, 10:12] == 255).all()


def test_the_usual_grid_is_eight_noises_of_96_pixels(tmp_path):
    pixels = grid(np.zeros((4, 8, 1, 32, 32), np.uint8), tmp_path / "grid.png")
    assert pixels.shape == (4 * 98, 8 * 98)


def test_large_images_are_not_shrunk(tmp_path):
    assert grid(np.zeros((1, 2, 1, 128, 128), np.uint8), tmp_path / "grid.png").shape == (130, 260)
