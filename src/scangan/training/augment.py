"""Classical augmentation: random flips, rotation, shift, shear, zoom and resized crops, drawn anew for every image."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional as F

from scangan.config import Classical


class ClassicalAugmentation:
    """A random affine map of every image of a batch, in one resampling (bilinear, zero fill).

    Call with images [N, C, S, S] and a CPU generator, which decides everything: the same state gives the same batch,
    on any device. Volumes [N, C, S, S, S] are changed so in their axial plane, and shifted and zoomed along the third
    axis as well.
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
        if images.ndim == 5:
            shift_z = settings.shift * (2 * torch.rand(len(images), generator=generator) - 1)
            matrices = volume_matrices(matrices, shift_z, 1 + settings.zoom * zoom)
        return warp(images, matrices.to(images.device))


def random_resized_crop(
    images: torch.Tensor, area: tuple[float, float], generator: torch.Generator | None = None
) -> torch.Tensor:
    """A random rectangle of every image [N, C, S, S], resized to its whole edge (bilinear).

    Its share of the area is uniform in `area` (least, greatest; above 0), its width / height log-uniform between 3/4
    and 4/3, its place uniform: torchvision's RandomResizedCrop. Where that draws again because a rectangle does not
    fit, here the proportions are drawn from those that fit, so that the area stays uniform.
    """
    share, proportion, across, down = torch.rand(4, len(images), generator=generator)
    least, greatest = area
    share = least + (greatest - least) * share
    # Width and height are at most the whole edge if width / height lies between the area's share and its inverse.
    widest = torch.minimum(-torch.log(share), torch.tensor(math.log(4 / 3)))
    half_log = widest * (proportion - 0.5)
    width, height = share.sqrt() * torch.exp(half_log), share.sqrt() * torch.exp(-half_log)
    matrices = crop_matrices((1 - width) * across, (1 - height) * down, width, height)
    return warp(images, matrices.to(images.device, non_blocking=True), padding="border")


def random_horizontal_flip(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Mirror half of the images [N, C, H, W] left to right."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored.to(images.device, non_blocking=True), images.flip(-1), images)


def crop_matrices(left: torch.Tensor, top: torch.Tensor, width: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """Matrices [N, 2, 3] for `warp` that make a rectangle the whole image; every argument is [N], in edges."""
    none = torch.zeros_like(left)
    # Coordinates run from -1 to 1 over the edge: the middle of the rectangle is where 0 comes from.
    across, down = 2 * left + width - 1, 2 * top + height - 1
    return torch.stack([width, none, across, none, height, down], dim=1).reshape(-1, 2, 3)


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


def volume_matrices(matrices: torch.Tensor, shift_z: torch.Tensor, zoom: torch.Tensor) -> torch.Tensor:
    """Matrices [N, 2, 3] of planes as those [N, 3, 4] of volumes; shift_z: [N], to the head, a share of the edge."""
    found = matrices.new_zeros(len(matrices), 3, 4)
    found[:, :2, :2], found[:, :2, 3] = matrices[:, :, :2], matrices[:, :, 2]
    found[:, 2, 2], found[:, 2, 3] = 1 / zoom, -2 * shift_z / zoom
    return found


def warp(images: torch.Tensor, matrices: torch.Tensor, padding: Literal["zeros", "border"] = "zeros") -> torch.Tensor:
    """Resample images [N, C, S, S] by matrices [N, 2, 3] that map places of the result to places of the image.

    Volumes [N, C, S, S, S] by matrices [N, 3, 4], whose places are (x, y, z). Beyond the image lie zeros or, with
    `border`, its outermost pixels.
    """
    # In coordinates from -1 to 1 a rotation is one only if the image is square.
    assert len(set(images.shape[2:])) == 1, f"images: found {tuple(images.shape)}, allowed: [N, C, S, S]"
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
