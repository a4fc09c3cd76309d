"""What `from seewhy import explain` returns, as the files of a run: python python_api.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from seewhy import UserError, explain, load_classifier

COMMON = {"probe_batch_size": 16, "overrides": ["trainer=cpu", "threads=1"]}


def main(folder: Path) -> None:
    """Explain files, Pillow images and a tensor, and write maps, tables and pictures."""
    files = sorted(Path("inputs/flat").glob("*_*.png"))[:3]
    pictures = [Image.open(path) for path in files]
    classifier = load_classifier("vgg16_cifar")
    results = {
        "files": explain(
            "cifar_cnn", files, "integrated_gradients", metrics=["deletion", "complexity"], n_steps=8, **COMMON
        ),
        "pictures": explain(classifier, pictures, "rise", "runner_up", n_masks=64, **COMMON),
    }
    import torch

    values = np.stack([np.asarray(picture.convert("RGB"), np.float32) / 255 for picture in pictures])
    results["tensor"] = explain(
        classifier, torch.from_numpy(values.transpose(0, 3, 1, 2).copy()), "grad_cam", target=3, **COMMON
    )
    for name, explanations in results.items():
        place = folder / name
        (place / "attributions").mkdir(parents=True)
        explanations.table().to_csv(place / "table.csv", index=False)
        explanations.figure().save(place / "sheet.png")
        explanations[0].figure().save(place / "figure.png")
        for explanation in explanations:
            np.save(place / "attributions" / f"{explanation.name}.npy", explanation.attribution.numpy())
    try:
        explain("cifar_cnn", files, "salency", **COMMON)
    except UserError as error:
        (folder / "error.txt").write_text(f"{error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
