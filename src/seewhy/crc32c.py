"""The checksum of TensorBoard's files, for megabytes: all stretches of the data at once instead of byte after byte."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, reflected (RFC 3720, 12.1)."""
STRETCH = 8
"""Bytes that each number of the register goes through, as a power of two."""
ONES = 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32C of at least four bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    stretches = -(-len(data) >> STRETCH)
    padded = np.zeros(stretches << STRETCH, np.uint8)
    start = len(padded) - len(data)  # zeros in front change nothing, as the register begins with zeros ...
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 255  # ... and this is the same as one that begins with ones
    register: NDArray[np.uint32] = np.zeros(stretches, np.uint32)
    for step in np.ascontiguousarray(padded.view("<u2").reshape(stretches, -1).T):
        register = _two_bytes()[(register ^ step) & 0xFFFF] ^ (register >> np.uint32(16))
    length = STRETCH
    while len(register) > 1:
        register = np.concatenate([np.zeros(len(register) % 2, np.uint32), register])
        register = _applied(_zeros(length), register[::2]) ^ register[1::2]
        length += 1
    return int(register[0]) ^ ONES


@cache
def _two_bytes() -> NDArray[np.uint32]:
    """What the register becomes that holds a number below 65536, two bytes of zeros later."""
    register: NDArray[np.uint32] = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        register = (register >> np.uint32(1)) ^ np.where(register & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return register


@cache
def _zeros(length: int) -> NDArray[np.uint32]:
    """What each bit of the register becomes, 2 ** length bytes of zeros later."""
    if length:
        half = _zeros(length - 1)
        return _applied(half, half)
    register: NDArray[np.uint32] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(8):
        register = (register >> np.uint32(1)) ^ np.where(register & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return register


def _applied(change: NDArray[np.uint32], register: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The change, which is linear, of every number of the register."""
    changed = np.zeros_like(register)
    for bit, becomes in enumerate(change):
        changed ^= np.where((register >> np.uint32(bit)) & 1, becomes, np.uint32(0))
    return changed
