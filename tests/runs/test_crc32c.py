"""The checksum is TensorBoard's, by known values and for every length around the stretches."""

import io
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer import record_writer

from seewhy.runs.tensorboard import SHORT, crc32c, log_picture


def test_known_values() -> None:
    # RFC 3720, B.4
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("length", [4, 5, 255, 256, 257, 259, 511, 512, 513, 1023, 4096, 5000, 70001])
def test_any_length(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == pywrap_tensorflow.crc32c(data)


def test_tensorboard_takes_its_checksums_from_here_and_reads_large_pictures_back(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(content, "PNG")
    assert len(content.getvalue()) > SHORT
    logger = TensorBoardLogger(tmp_path, name="", version="")
    log_picture([logger], "noise", content.getvalue(), 3)
    logger.experiment.close()
    for length in (1, 8, SHORT, SHORT + 1):
        data = np.random.default_rng(0).bytes(length)
        assert record_writer.masked_crc32c(data) == pywrap_tensorflow.masked_crc32c(data)
    found = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    found.Reload()
    (read,) = found.Images("noise")
    assert (read.step, read.encoded_image_string) == (3, content.getvalue())
