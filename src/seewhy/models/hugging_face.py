"""Image classifiers in the format of Hugging Face transformers: a folder, or a name on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.models.architectures import Architecture, StateDict, find_timm_home, is_reachable

if TYPE_CHECKING:
    from torch import nn

INSTALL = "the Python package transformers is not installed; pip install 'seewhy[transformers]'"
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers in a processor's file."""


@dataclass(frozen=True)
class HuggingFace(Architecture):
    """A network of transformers' AutoModelForImageClassification with its own processor's facts.

    Weights come from safetensors alone, and code that a repository brings is never run.
    """

    name: str | None
    """A folder with config.json, preprocessor_config.json and model.safetensors, or a name on the hub."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError(
                "model=transformers needs model.name=<a folder with config.json and model.safetensors, or a name on the "
                "hub>, such as model.name=google/vit-base-patch16-224"
            )

    def missing(self) -> str | None:
        """Look for transformers, then for the files in the folder or in the Hugging Face cache, then ask the hub."""
        name = str(self.name)
        if find_spec("transformers") is None:
            return INSTALL
        if Path(name).is_dir():
            if not (Path(name) / "config.json").is_file():
                return (
                    f"the folder {name} holds no config.json; model.save_pretrained(folder) of transformers writes it"
                )
            if not any(Path(name).glob("*.safetensors")):
                return (
                    f"the folder {name} holds no *.safetensors, and weights of other kinds are not read; "
                    "model.save_pretrained(folder) of transformers writes them"
                )
            return None
        if name.count("/") != 1 or Path(name).is_absolute() or name.startswith("."):
            return f"{name} is neither a folder nor a name on the hub, such as google/vit-base-patch16-224"
        if _is_cached(name) or is_reachable(find_timm_home()):
            return None
        return (
            f"{name} is no folder and not in the Hugging Face cache, and the hub cannot be reached; where there is a "
            f"network: hf download {name} --local-dir FOLDER, then model.name=FOLDER"
        )

    @property
    def advice(self) -> str:
        """Name a folder that holds everything."""
        return (
            "  give it by hand: model.name=<folder with config.json, preprocessor_config.json and model.safetensors>\n"
            "  model.weights=random takes the structure of such a folder alone"
        )

    def shorten_name(self, name: str) -> str:
        """Shorten a folder to its last part; names on the hub stay.

        Args:
            name: A folder or a name on the hub.

        Returns:
            The name.
        """
        return Path(name).resolve().name if Path(name).is_dir() else name

    def facts(self) -> Facts:
        """Read class names from the configuration, and measure what the processor does to an image."""
        config, processor = self._read_config(), self._read_processor()
        labels = config.id2label
        classes = tuple(str(labels[index]) for index in range(config.num_labels))
        mean, std, size = measure_processor(processor, int(getattr(config, "num_channels", 3)))
        settings = processor.to_dict()
        mode = RESAMPLING.get(int(settings.get("resample") or 2), "bicubic")
        crop = find_crop(settings, size)
        fit = "crop" if crop < 1 or settings.get("do_center_crop") else "squash"
        return Facts(classes, size, mean, std, crop, mode, fit=fit)

    def network(self, num_classes: int, size: int | tuple[int, int], channels: int = 3, /, **options: Any) -> nn.Module:
        """Build the network with `num_classes` outputs; further options replace values of its configuration."""
        import transformers

        config = self._read_config()
        if num_classes != config.num_labels:
            config.num_labels = num_classes
        for key, value in (("image_size", size), ("num_channels", channels)):
            if hasattr(config, key):
                setattr(config, key, value)
        for key, value in options.items():
            if not hasattr(config, key):
                raise UserError(f"model.arguments.{key}: the configuration of {self.name} has no such value")
            setattr(config, key, value)
        with self._reading("a network"):
            network: nn.Module = transformers.AutoModelForImageClassification.from_config(
                config, trust_remote_code=False
            )
        return network

    def pretrained(self, network: nn.Module) -> tuple[StateDict, str]:
        """Read the weights from safetensors; refused where they hold no head for the classes."""
        import transformers

        local = Path(str(self.name)).is_dir()
        with self._reading("weights"):
            loaded, report = transformers.AutoModelForImageClassification.from_pretrained(
                self.name, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **self._offline()
            )
        lacking = sorted(report["missing_keys"])
        if lacking:
            raise UserError(
                f"{self.name}: its weights lack {', '.join(lacking[:3])}{' and more' if len(lacking) > 3 else ''}, "
                "which would be random: it was not trained as an image classifier; name one that was "
                "(...ForImageClassification in its config.json)"
            )
        return (
            loaded.state_dict(),
            f"{'folder' if local else 'hub or its cache'}: transformers {self.shorten_name(str(self.name))}",
        )

    def _offline(self) -> dict[str, bool]:
        """Without a network nothing waits for the hub."""
        name = str(self.name)
        return {"local_files_only": Path(name).is_dir() or _is_cached(name)}

    def _read_config(self) -> Any:
        self._check_installed()
        import transformers

        with self._reading("a configuration"):
            return transformers.AutoConfig.from_pretrained(self.name, trust_remote_code=False, **self._offline())

    def _read_processor(self) -> Any:
        import transformers

        with self._reading("an image processor"):
            return transformers.AutoImageProcessor.from_pretrained(
                self.name, trust_remote_code=False, **self._offline()
            )

    def _check_installed(self) -> None:
        if find_spec("transformers") is None:
            raise UserError(f"model=transformers: {INSTALL}")

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """What transformers cannot read is one sentence; it prints nothing."""
        import transformers

        logging = transformers.utils.logging
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
            first = " ".join(str(error).split())[:300]
            raise UserError(f"model.name={self.name}: transformers cannot read {what} from it ({first})") from error
        finally:
            logging.set_verbosity(verbosity)
            logging.enable_progress_bar()


def _is_cached(name: str) -> bool:
    """Whether the Hugging Face cache holds configuration and weights of a repository."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    return any(folder.glob("*/config.json")) and any(folder.glob("*/*.safetensors"))


def measure_processor(processor: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...], Any]:
    """Measure mean, standard deviation and image size of a processor: what it makes of a black and of a white image.

    Read from the settings they would be wrong for processors that scale otherwise, shift, or normalise twice.

    Args:
        processor: Makes `pixel_values` of an image [channels, height, width] of bytes.
        channels: Number of channels.

    Returns:
        (mean, standard deviation) of each channel for images in [0, 1], and the side of its result in pixels.

    Raises:
        UserError: The result is not an image that is scaled and shifted channel by channel.
    """
    import torch

    values = []
    for level in (0, 51, 255):
        picture = torch.full((channels, 320, 448), level, dtype=torch.uint8)
        result = processor(picture, return_tensors="pt")["pixel_values"].double()
        if result.ndim != 4 or result.shape[:2] != (1, channels):
            raise UserError(f"its image processor gives {list(result.shape)}, not [1, {channels}, height, width]")
        values.append(result[0].flatten(1))
    black, dark, white = values
    flat = all(float((each - each[:, :1]).abs().max()) < 1e-4 for each in values)
    scale = (white - black)[:, 0]
    linear = bool((black[:, 0] + 0.2 * scale - dark[:, 0]).abs().max() < 1e-3)
    if not flat or not linear or bool((scale <= 0).any()):
        raise UserError(
            "its image processor does more than scale and shift each channel; give a network and images in Python"
        )
    height, width = result.shape[2:]
    mean = tuple(_round(-float(low) / float(step)) for low, step in zip(black[:, 0], scale, strict=True))
    return mean, tuple(_round(1 / float(step)) for step in scale), height if height == width else (height, width)


def _round(value: float) -> float:
    """Six digits, which is what single precision leaves of a measured number."""
    return float(f"{value:.6g}") if abs(value) > 1e-6 else 0.0


def find_crop(settings: dict[str, Any], size: Any) -> float:
    """Find the share of the shorter side that a processor's centre crop keeps.

    Args:
        settings: Of the processor.
        size: Side, or height and width, of its result in pixels.

    Returns:
        The share, in (0, 1]; 1 where it crops nothing.
    """
    before = settings.get("size") or {}
    short = before.get("shortest_edge") or min(before.get("height", 0), before.get("width", 0))
    side = size if isinstance(size, int) else min(size)
    if settings.get("crop_pct") and short < 384:
        return float(settings["crop_pct"])
    if settings.get("do_center_crop") and settings.get("do_resize", True) and short >= side:
        return side / short
    return 1.0
