"""Files of weights: reading them safely, fitting them to a network, saving them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts commonly put the state dict."""
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
LARGEST_RATIO = 4
"""How many times larger than the file the contents of an archive may be."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], Facts | None]:
    """Read weights from a file. Nothing in it is executed: only tensors in plain containers are accepted.

    Args:
        path: A .safetensors, .pt, .pth, .bin or .ckpt file.

    Returns:
        The state dict, and the facts where the file carries them.

    Raises:
        UserError: The file is missing, damaged, of another kind, or holds other pickled objects.
    """
    if not path.is_file():
        raise UserError(f"model.weights={path}: {'it is not a file' if path.exists() else 'there is no such file'}")
    if path.stat().st_size == 0:
        raise UserError(f"model.weights={path}: the file is empty; is it complete?")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in (".pt", ".pth", ".ckpt", ".bin"):
        raise UserError(f"model.weights={path}: expected .safetensors, .pt, .pth or .ckpt")
    _check_size(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises errors of any kind
        if "GLOBAL" in str(error):
            raise UserError(
                f"model.weights={path} holds pickled objects, which could run code; save network.state_dict() instead"
            ) from error
        raise UserError(f"model.weights={path} cannot be read ({_first_line(error)}); is it complete?") from error
    metadata = content.get("seewhy") if isinstance(content, dict) else None
    return _state_dict(content, path), _parse_facts(metadata, path)


def _check_size(path: Path) -> None:
    """UserError where an archive unpacks to far more than its size: torch itself stores tensors uncompressed."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"model.weights={path} cannot be read ({_first_line(error)}); is it complete?") from error
    if unpacked > LARGEST_RATIO * path.stat().st_size:
        raise UserError(
            f"model.weights={path} unpacks to {unpacked:,} bytes, more than {LARGEST_RATIO} times its size: no state "
            "dict does; save network.state_dict() with torch.save, or as safetensors"
        )


def _parse_facts(metadata: Any, path: Path) -> Facts | None:
    try:
        return Facts.from_metadata(metadata)
    except UserError as error:
        raise UserError(f"model.weights={path}: {error}") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Facts | None]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return state, _parse_facts(file.metadata(), path)
    except UserError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"model.weights={path} cannot be read ({_first_line(error)}); is it complete?") from error


def _first_line(error: Exception) -> str:
    if str(error).startswith("Weights only load failed"):
        return "it is not a state dict as torch.save writes it"
    return str(error).split("\n")[0][:200] or type(error).__name__


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    named = isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )
    if not named or not content:
        raise UserError(f"model.weights={path} is not a state dict (names with tensors)")
    for prefix in ("network.", "module."):
        if content and all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    return content


def fit_weights(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load weights into a network.

    Args:
        network: The network.
        state: Tensors by their names in the network.
        origin: Where they come from, for the message.

    Raises:
        UserError: Names, shapes or types do not fit, each kind with examples; or a value is not finite.
    """
    expected = network.state_dict()
    _check_names_and_shapes(expected, state, origin)
    kinds = [
        f"{key} is {value.dtype} ({str(value.layout).removeprefix('torch.')})"
        for key, value in state.items()
        if value.layout != torch.strided
        or value.is_meta
        or value.is_quantized
        or value.dtype not in (FLOATS if expected[key].is_floating_point() else WHOLE)
    ]
    if kinds:
        examples = _list_examples("type", kinds)
        raise UserError("\n".join([f"the weights ({origin}) hold tensors of other types:", *examples]))
    damaged = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if damaged:
        examples = _list_examples("in", damaged)
        raise UserError("\n".join([f"the weights ({origin}) hold NaN or infinite values:", *examples]))
    network.load_state_dict(state)


def _check_names_and_shapes(expected: dict[str, Tensor], state: dict[str, Tensor], origin: str) -> None:
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} is {list(state[key].shape)}, the network needs {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if missing or unexpected or shapes:
        report = [f"the weights ({origin}) do not fit the network:"]
        report += (
            _list_examples("missing", missing)
            + _list_examples("unexpected", unexpected)
            + _list_examples("other shape", shapes)
        )
        if shapes and not missing and not unexpected:
            report.append("for weights with another number of classes set model.classes (a number, names, or cifar10)")
        raise UserError("\n".join(report))


def _list_examples(title: str, rows: list[str]) -> list[str]:
    more = [f"  ... and {len(rows) - 6} more"] if len(rows) > 6 else []
    return [f"  {title}: {row}" for row in rows[:6]] + more


def hash_weights(network: nn.Module) -> str:
    """Hash the weights of a network.

    Args:
        network: The network.

    Returns:
        SHA-256 over the names, shapes and bytes of every parameter and buffer, in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(f"{key}{list(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_weights(network: nn.Module, facts: Facts, path: Path, half: bool = False) -> None:
    """Write the weights and the facts of a network as safetensors.

    Args:
        network: The network.
        facts: What its weights assume and its outputs mean.
        path: The file to write.
        half: Whether floating point is stored as float16.
    """
    state = {
        key: (value.half() if half and value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    save_file(state, str(path), metadata=facts.to_metadata())
    path.chmod(0o644)
