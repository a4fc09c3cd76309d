"""Reading weights safely, and fitting them to a network."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from seewhy.errors import UserError
from seewhy.models.facts import Facts

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts commonly put the state dict."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], Facts | None]:
    """(state dict, facts where the file carries them) of a .safetensors, .pt / .pth or .ckpt file.

    Nothing in the file is executed: pickled objects other than tensors and plain containers are refused.
    """
    if not path.is_file():
        raise UserError(f"model.weights={path}: there is no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in (".pt", ".pth", ".ckpt", ".bin"):
        raise UserError(f"model.weights={path}: expected .safetensors, .pt, .pth or .ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if "GLOBAL" in str(error):
            raise UserError(
                f"model.weights={path} holds pickled objects, which could run code; save network.state_dict() instead"
            ) from error
        raise UserError(f"model.weights={path} cannot be read ({_first_line(error)}); is it complete?") from error
    facts = Facts.from_metadata(content.get("seewhy")) if isinstance(content, dict) else None
    return _state_dict(content, path), facts


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Facts | None]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return state, Facts.from_metadata(file.metadata())
    except (SafetensorError, OSError) as error:
        raise UserError(f"model.weights={path} cannot be read ({_first_line(error)}); is it complete?") from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"model.weights={path} is not a state dict (names with tensors)")
    for prefix in ("network.", "module."):
        if content and all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    return content


def fit_weights(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load `state` into the network; UserError that lists every kind of misfit, or a tensor that is not finite."""
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} is {list(state[key].shape)}, the network needs {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if missing or unexpected or shapes:
        report = [f"the weights ({origin}) do not fit the network:"]
        report += _listed("missing", missing) + _listed("unexpected", unexpected) + _listed("other shape", shapes)
        if shapes and not missing and not unexpected:
            report.append("for weights with another number of classes set model.classes (a number, names, or cifar10)")
        raise UserError("\n".join(report))
    damaged = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if damaged:
        raise UserError("\n".join([f"the weights ({origin}) hold NaN or infinite values:", *_listed("in", damaged)]))
    network.load_state_dict(state)


def _listed(title: str, rows: list[str]) -> list[str]:
    more = [f"  ... and {len(rows) - 6} more"] if len(rows) > 6 else []
    return [f"  {title}: {row}" for row in rows[:6]] + more


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names, shapes and bytes of every parameter and buffer."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(f"{key}{list(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_weights(network: nn.Module, facts: Facts, path: Path, half: bool = False) -> None:
    """Write the network's state dict and its facts as safetensors; `half` stores floating point as float16."""
    state = {
        key: (value.half() if half and value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    save_file(state, str(path), metadata=facts.to_metadata())
    path.chmod(0o644)
