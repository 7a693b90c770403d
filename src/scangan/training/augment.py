"""Classical augmentation: random flips, rotation, shift, shear and zoom, drawn anew for every image."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from scangan.config import Classical


class ClassicalAugmentation:
    """A random affine map of every image of a batch, in one resampling (bilinear, zero fill).

    Call with images [N, C, S, S] and a CPU generator, which decides everything: the same state gives the same batch,
    on any device.
    """

    def __init__(self, settings: Classical) -> None:
        self.settings = settings

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        settings = self.settings
        # Always seven draws an image, so that one setting does not move the draws of another.
        flip_x, flip_y, angle, shift_x, shift_y, shear, zoom = 2 * torch.rand(7, len(images), generator=generator) - 1
        matrices = affine_matrices(
            flip_x=(flip_x < 0) & settings.horizontal_flip,
            flip_y=(flip_y < 0) & settings.vertical_flip,
            degrees=settings.rotation_degrees * angle,
            shift_x=settings.shift * shift_x,
            shift_y=settings.shift * shift_y,
            shear=settings.shear * shear,
            zoom=1 + settings.zoom * zoom,
        )
        return warp(images, matrices.to(images.device))


def affine_matrices(
    flip_x: torch.Tensor,
    flip_y: torch.Tensor,
    degrees: torch.Tensor,
    shift_x: torch.Tensor,
    shift_y: torch.Tensor,
    shear: torch.Tensor,
    zoom: torch.Tensor,
) -> torch.Tensor:
    """Matrices [N, 2, 3] for `warp`; every argument is [N].

    flip_x, flip_y: mirror left to right, top to bottom (bool). degrees: counter-clockwise. shift_x, shift_y: to the
    right and down, as a share of the edge. shear: slope. zoom: magnification.
    """
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    scale_x = torch.where(flip_x, -1.0, 1.0) / zoom
    scale_y = torch.where(flip_y, -1.0, 1.0) / zoom
    # Where a pixel of the result comes from: rotation @ [[1, shear], [0, 1]] @ diag(scale_x, scale_y) @ (pixel - shift)
    a, b = cos * scale_x, (cos * shear - sin) * scale_y
    c, d = sin * scale_x, (sin * shear + cos) * scale_y
    x, y = 2 * shift_x, 2 * shift_y  # coordinates run from -1 to 1 over the edge
    return torch.stack([a, b, -a * x - b * y, c, d, -c * x - d * y], dim=1).reshape(-1, 2, 3)


def warp(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Resample images [N, C, S, S] by matrices [N, 2, 3] that map places of the result to places of the image."""
    # In coordinates from -1 to 1 a rotation is one only if the image is square.
    assert images.shape[2] == images.shape[3], f"images: found {tuple(images.shape)}, allowed: [N, C, S, S]"
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
