"""Random numbers that belong to an image, not to its place in a run."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seed_generator(seed: int, image: Tensor, stream: str) -> torch.Generator:
    """A CPU generator that depends on the seed, the image's pixels and the name of the purpose alone.

    Whatever the batch, the order, the number of workers or the device: the same image draws the same numbers.
    """
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return torch.Generator().manual_seed(derive_seed(seed, pixels, stream))


def derive_seed(seed: int, picture: Tensor, stream: str) -> int:
    """A number from 0 to 2^63 - 1 that depends on the seed, the uint8 pixels and the name of the purpose alone."""
    pixels = picture.cpu().contiguous().numpy().tobytes()
    digest = hashlib.blake2b(pixels, digest_size=8, key=f"{seed} {stream}".encode()[:64]).digest()
    return int.from_bytes(digest, "little") >> 1
