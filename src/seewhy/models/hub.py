"""Where downloaded weights lie, and whether their homes can be reached. Imports nothing heavy: it answers at once."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

SECONDS_TO_ANSWER = 2.0


def reachable(url: str) -> bool:
    """Whether a server answers at `url` within two seconds (any answer counts). False when HF_HUB_OFFLINE is set."""
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


def torch_checkpoint(filename: str) -> Path:
    """Where torch.hub keeps a downloaded checkpoint of that name."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    home = Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser()
    return home / "hub" / "checkpoints" / filename


def timm_snapshot(name: str) -> Path | None:
    """The weights of a timm network in the Hugging Face cache (`name` with or without its training tag), or None."""
    from huggingface_hub import constants

    pattern = name if "." in name else f"{name}.*"
    found = Path(constants.HF_HUB_CACHE).glob(f"models--timm--{pattern}/snapshots/*/model.safetensors")
    return next(iter(sorted(found)), None)


def timm_home() -> str:
    """The address of the hub that timm downloads from."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
