"""Random numbers that belong to an image, not to its position in a run."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seed_generator(seed: int, image: Tensor, stream: str) -> torch.Generator:
    """Seed a generator for one image: whatever batch, order, worker or device, it draws the same numbers.

    Args:
        seed: The seed of the run.
        image: [channels, height, width] in [0, 1].
        stream: The purpose of the numbers: each has its own.

    Returns:
        A generator on the CPU.
    """
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return torch.Generator().manual_seed(derive_seed(seed, pixels, stream))


def derive_seed(seed: int, picture: Tensor, stream: str) -> int:
    """Derive a seed for one image.

    Args:
        seed: The seed of the run.
        picture: uint8 [channels, height, width].
        stream: The purpose of the numbers.

    Returns:
        A number from 0 to 2^63 - 1 that depends on these alone.
    """
    pixels = picture.cpu().contiguous().numpy().tobytes()
    digest = hashlib.blake2b(pixels, digest_size=8, key=f"{seed} {stream}".encode()[:64]).digest()
    return int.from_bytes(digest, "little") >> 1
