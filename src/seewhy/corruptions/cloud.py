"""Random clouds: noise that is strong at large scales and weak at small ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cloud(height: int, width: int, decay: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """float32 [height, width] from 0 to 1 with structures of all sizes, each octave `decay` times weaker than the last.

    White noise is filtered with the amplitude f^-(1 + log2 decay), which is the spectrum of the diamond-square
    algorithm with that decay. Constant pictures of one pixel give 0.
    """
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(generator.standard_normal((height, width))) * frequency ** -(1 + np.log2(decay))
    heights = np.fft.irfft2(spectrum, s=(height, width))
    spread = np.ptp(heights)
    return np.zeros((height, width), np.float32) if spread == 0 else ((heights - heights.min()) / spread).astype("f4")
