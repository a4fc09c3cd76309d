"""What a user would write instead: explain the pictures of a folder with torchvision, Captum and matplotlib.

usage: python plain_script.py NETWORK SIZE FOLDER OUTPUT METHOD [WINDOW STRIDE]

NETWORK is a whole module as torch.save writes it, which takes images in [0, 1]. One image after the other, with captum's
defaults; each leaves its map and a figure.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from captum.attr import visualization as captum_plots
from matplotlib import pyplot
from PIL import Image
from torchvision import transforms


def main(network_file: str, size: str, folder: str, output: str, method: str, *geometry: str) -> None:
    """Explain every picture of the folder."""
    network = torch.load(network_file, weights_only=False).eval()
    side = int(size)
    prepare = transforms.Compose(
        [transforms.Resize(round(side / 0.875)), transforms.CenterCrop(side), transforms.ToTensor()]
    )
    explain = {"saliency": Saliency, "integrated_gradients": IntegratedGradients, "occlusion": Occlusion}[method](
        network
    )
    options = {}
    if method == "occlusion":
        window, stride = map(int, geometry)
        options = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    for path in sorted(Path(folder).glob("*.jpg")):
        image = prepare(Image.open(path).convert("RGB"))[None]
        target = int(network(image).argmax())
        values = explain.attribute(image.requires_grad_(), target=target, **options).detach()[0].numpy()
        np.save(Path(output) / f"{path.stem}.npy", values.sum(0))
        picture, shown = image.detach()[0].permute(1, 2, 0).numpy(), values.transpose(1, 2, 0)
        sign = "absolute_value" if method == "saliency" else "all"
        figure, _ = captum_plots.visualize_image_attr_multiple(
            shown, picture, ["original_image", "heat_map", "blended_heat_map"], ["all", sign, sign], use_pyplot=False
        )
        figure.savefig(Path(output) / f"{path.stem}.png")
        pyplot.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
