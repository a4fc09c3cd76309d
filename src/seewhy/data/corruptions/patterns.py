"""Patterns that corruptions lay over a picture: clouds, plasma and streaks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def draw_cloud(height: int, width: int, decay: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """float32 [height, width] from 0 to 1 with structures of all sizes, each octave `decay` times weaker than the last.

    White noise is filtered with the amplitude f^-(1 + log2 decay). Constant pictures of one pixel give 0.
    """
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(generator.standard_normal((height, width))) * frequency ** -(1 + np.log2(decay))
    heights = np.fft.irfft2(spectrum, s=(height, width))
    spread = np.ptp(heights)
    return np.zeros((height, width), np.float32) if spread == 0 else ((heights - heights.min()) / spread).astype("f4")


def swap_sides(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of float32 [height, width, channels] as [width, height, channels]."""
    if values.shape[2] != 3:  # OpenCV has no transposition of a pixel of any length
        return np.ascontiguousarray(values.swapaxes(0, 1))
    swapped: NDArray[Any] = cv2.transpose(values)
    return swapped


def enlarge(values: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Enlarge the first axis as `ZoomBlur` does.

    Args:
        values: float32 [side, ...].
        factor: At least 1.

    Returns:
        The same shape.
    """
    side = len(values)
    kept = int(np.ceil(side / factor))
    longer = round(kept * factor)
    positions = (np.arange(side) + (longer - side) // 2) * ((kept - 1) / max(longer - 1, 1))
    lower = np.minimum(positions.astype(int), max(kept - 2, 0))
    weights = (positions - lower).astype(np.float32).reshape(side, *[1] * (values.ndim - 1))
    lower += (side - kept) // 2
    first = values[lower]
    enlarged = values[np.minimum(lower + 1, side - 1)]
    enlarged -= first
    enlarged *= weights
    enlarged += first
    return enlarged


def draw_plasma(height: int, width: int, decay: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw the heights of the diamond-square algorithm as ImageNet-C's fog uses them.

    Each point of a grid is the mean of four neighbours of the coarser grid plus uniform noise, whose amplitude falls by
    decay^2 from grid to grid (that code multiplies two factors which fall by `decay` each).

    Args:
        height: Rows.
        width: Columns.
        decay: Larger values make a smoother picture.
        generator: Of random numbers.

    Returns:
        float32 [height, width]: a corner of the smallest square map with a power of 2 on its side that covers it. The map
        wraps around and reaches from 0 to 1; it is 0 for one pixel.
    """
    step = 1 << (max(height, width) - 1).bit_length()
    heights = np.zeros((step, step))
    amplitude = 1.0

    def average(*neighbours: NDArray[Any]) -> NDArray[Any]:
        return sum(neighbours) / 4 + amplitude * generator.uniform(-1, 1, neighbours[0].shape)

    while step > 1:
        half = step // 2
        corners = heights[::step, ::step]
        below, right = np.roll(corners, -1, 0), np.roll(corners, -1, 1)
        centres = average(corners, below, right, np.roll(below, -1, 1))
        heights[half::step, half::step] = centres
        heights[::step, half::step] = average(corners, right, centres, np.roll(centres, 1, 0))
        heights[half::step, ::step] = average(corners, below, centres, np.roll(centres, 1, 1))
        step, amplitude = half, amplitude / decay**2
    heights -= heights.min()
    return (heights[:height, :width] / (heights.max() or 1)).astype(np.float32)


def smear(values: NDArray[np.float32], radius: int, sigma: float, angle: float) -> NDArray[np.float32]:
    """Blur along a line from each pixel, as ImageMagick's motion blur does; border pixels are repeated outwards.

    Args:
        values: float32 [height, width] or [height, width, channels].
        radius: The line has 2 radius + 1 pixels, the first being the pixel itself.
        sigma: Of the Gaussian weights exp(-k^2 / (2 sigma^2)), which add to 1.
        angle: Of the line, in radians, from right over down.

    Returns:
        The same shape.
    """
    kernel = build_streak(radius, sigma, angle)
    blurred: NDArray[Any] = cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return blurred.reshape(values.shape)  # OpenCV drops an axis of one channel


def build_streak(radius: int, sigma: float, angle: float) -> NDArray[np.float32]:
    """The kernel of `smear`, float32 [4 radius + 1, 4 radius + 1], whose line begins at its centre."""
    reach = 2 * radius
    steps = np.arange(reach + 1)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    rows = reach + np.ceil(steps * np.sin(angle) - 0.5).astype(int)
    columns = reach + np.ceil(steps * np.cos(angle) - 0.5).astype(int)
    np.add.at(kernel, (rows, columns), np.exp(-((steps / sigma) ** 2) / 2))
    return kernel / kernel.sum()
