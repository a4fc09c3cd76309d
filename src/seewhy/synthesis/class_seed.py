"""Random numbers that belong to a class, not to its place in a run."""

from __future__ import annotations

import hashlib

import torch


def class_generator(seed: int, index: int) -> torch.Generator:
    """A CPU generator that depends on the seed and the index of the class alone, whatever else the run makes."""
    digest = hashlib.blake2b(f"{seed} {index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
