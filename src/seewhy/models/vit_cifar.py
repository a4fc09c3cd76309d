"""A small vision transformer for the 32x32 images of CIFAR-10, of timm's blocks."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

CHANNELS, BLOCKS, HEADS = 128, 4, 4


class ConvolutionalStem(nn.Module):
    """Three convolutions in the place of a transformer's patch projection: one token for each 4 x 4 pixels.

    A transformer that begins with convolutions learns from few images in few epochs. Xiao et al.: Early convolutions help
    transformers see better (NeurIPS 2021).

    Args:
        img_size: Side of the images in pixels.
        patch_size: Pixels of a token along each side; 4.
        in_chans: Channels of the images.
        embed_dim: Channels of a token.
        **_: What timm tells any patch projection, and this one does not need.
    """

    def __init__(
        self, img_size: int = 32, patch_size: int = 4, in_chans: int = 3, embed_dim: int = CHANNELS, **_: Any
    ) -> None:
        super().__init__()
        narrow, wide = embed_dim // 4, embed_dim // 2
        self.conv1 = nn.Conv2d(in_chans, narrow, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(narrow)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(wide, embed_dim, 3, stride=2, padding=1)
        self.patch_size = patch_size, patch_size
        self.grid_size = img_size // patch_size, img_size // patch_size
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the tokens [batch, rows * columns, channels] of images [batch, channels, height, width]."""
        features = self.relu1(self.norm1(self.conv1(images)))
        features = self.relu2(self.norm2(self.conv2(features)))
        tokens: Tensor = self.conv3(features).flatten(2).transpose(1, 2)
        return tokens


class VitCifar(VisionTransformer):
    """Four transformer blocks of 128 channels on 8 x 8 tokens and a class token, for 32x32 images.

    While it is trained, a share of each image's tokens is left out: that costs less, and keeps the network from learning
    images by heart. Dosovitskiy et al.: An image is worth 16x16 words (ICLR 2021); Li et al.: Scaling language-image
    pre-training via masking (CVPR 2023).

    Args:
        num_classes: Number of logits.
        channels: Of the images.
        patch_drop_rate: Share of the tokens that is left out in training mode, in [0, 1).
    """

    def __init__(self, num_classes: int = 10, channels: int = 3, patch_drop_rate: float = 0.5) -> None:
        super().__init__(
            img_size=32,
            patch_size=4,
            in_chans=channels,
            num_classes=num_classes,
            embed_dim=CHANNELS,
            depth=BLOCKS,
            num_heads=HEADS,
            mlp_ratio=2,
            patch_drop_rate=patch_drop_rate,
            embed_layer=ConvolutionalStem,
        )
