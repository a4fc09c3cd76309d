"""Files of weights: reading them safely, fitting them to a network, saving them."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import zipfile
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.words import count_noun

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
"""Keys under which training scripts commonly put the state dict."""
AVERAGES = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "model_state_dict_ema",
    "model_ema_state_dict",
    "ema_model",
    "params_ema",
    "weights_ema",
    "ema",
)
"""Keys under which training scripts put the exponential moving average of the weights beside the last ones."""
AVERAGE_INNER = (*WRAPPERS, "module", "shadow")
"""Keys under which such an average puts its state dict."""
TORCH_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile and others write into the names of what they wrap."""
COUNTER = "n_averaged"
"""What torch's AveragedModel counts beside its weights."""
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
EXPORTED = "an exported program"
LARGEST_RATIO = 4
"""How many times larger than the file the contents of an archive may be."""


class Checkpoint(NamedTuple):
    """What a file of weights holds."""

    state: dict[str, Tensor]
    """Tensors by the names that the file gives them."""
    facts: Facts | None
    """Of the network, where the file carries them."""
    average: str = ""
    """The key of the moving average that `state` is; empty where it is the weights themselves."""
    note: str = ""
    """What was chosen, in words; empty where there was no choice."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], Facts | None]:
    """Read weights from a file as `read_checkpoint` does, the moving average where there is one.

    Args:
        path: A .safetensors, .pt, .pth, .bin or .ckpt file.

    Returns:
        The state dict, and the facts where the file carries them.

    Raises:
        UserError: The file is missing, damaged, of another kind, or holds other pickled objects.
    """
    checkpoint = read_checkpoint(path)
    return checkpoint.state, checkpoint.facts


def read_checkpoint(path: Path, ema: bool | str = "auto") -> Checkpoint:
    """Read weights from a file. Nothing in it is executed: only tensors in plain containers are accepted.

    Args:
        path: A .safetensors, .pt, .pth, .bin or .ckpt file.
        ema: Whether to take the exponential moving average of the weights, which lies under one of the keys `AVERAGES`;
            `auto`: where there is one.

    Returns:
        The state dict, the facts where the file carries them, and what was chosen.

    Raises:
        UserError: The file is missing, damaged, of another kind, holds other pickled objects, or only the moving
            average where `ema` is false.
    """
    if ema not in (True, False, "auto"):
        raise UserError(f"model.ema={ema} must be auto, true or false")
    if not path.is_file():
        raise UserError(f"model.weights={path}: {'it is not a file' if path.exists() else 'there is no such file'}")
    if path.stat().st_size == 0:
        raise UserError(f"model.weights={path}: the file is empty; is it complete?")
    if path.suffix == ".safetensors":
        return Checkpoint(*_read_safetensors(path))
    _check_is_no_program(path)
    if path.suffix not in (".pt", ".pth", ".ckpt", ".bin"):
        raise UserError(f"model.weights={path}: expected .safetensors, .pt, .pth, .bin or .ckpt")
    _check_size(path)
    try:
        with torch.serialization.safe_globals(list_inert_classes()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises errors of any kind
        if "GLOBAL" in str(error):
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise UserError(
                f"model.weights={path} holds pickled objects{f' ({named[1]})' if named else ''}, which could run code; save "
                "network.state_dict() instead"
            ) from error
        raise UserError(f"model.weights={path} cannot be read ({_first_line(error)}); is it complete?") from error
    metadata = content.get("seewhy") if isinstance(content, dict) else None
    facts = _parse_facts(metadata, path)
    key, average = _find_average(content)
    if key and ema is not False:
        return Checkpoint(_state_dict(average, path), facts, key, f"moving average {key}")
    if key and not any(isinstance(content.get(wrapper), dict) for wrapper in WRAPPERS):
        raise UserError(f"model.weights={path} holds the moving average {key} alone: set model.ema=auto")
    note = f"last weights, not the moving average {key}" if key else ""
    state = _state_dict(content, path)
    if facts is not None:  # a checkpoint of this project's training, whose classifier holds its network under that name
        state = {key.removeprefix("network."): value for key, value in state.items()}
    return Checkpoint(state, facts, note=note)


def list_inert_classes() -> list[Any]:
    """List what a checkpoint may hold beside tensors and plain containers: settings and numbers, which run nothing.

    Returns:
        Classes and functions for `torch.serialization.safe_globals`.
    """
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(name)) for name in ("b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")}
    return [argparse.Namespace, PosixPath, scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # it is one whose directory is damaged
        raise UserError(f"model.weights={path} cannot be read ({_first_line(error)}); is it complete?") from error


def _check_is_no_program(path: Path) -> None:
    """UserError for TorchScript and exported programs, which are code, with the way in which they can be explained."""
    if not _is_archive(path):
        return
    names: set[str] = set()
    damaged = zipfile.BadZipFile, OSError, ValueError, NotImplementedError
    with contextlib.suppress(*damaged), zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    is_script = "constants.pkl" in names and any(name.startswith("code/") for name in names)
    if is_script or names & {"archive_format", "serialized_exported_program.json"}:
        form, load = (
            ("TorchScript", "torch.jit.load(...)") if is_script else (EXPORTED, "torch.export.load(...).module()")
        )
        raise UserError(
            f"model.weights={path} is {form}: a program, not weights. If you trust it, let a function of your own load it, "
            f"such as mynet.py with `def load(): return {load}`: model=own model.build=mynet:load model.weights=built"
        )


def _find_average(content: Any) -> tuple[str, Any]:
    """The key of the moving average in a checkpoint and the average; an empty key where there is none."""
    if not isinstance(content, dict):
        return "", None
    for key in AVERAGES:
        average = content.get(key)
        if isinstance(average, dict) and average:
            inner = next((average[name] for name in AVERAGE_INNER if isinstance(average.get(name), dict)), average)
            return key, inner
    return "", None


def _check_size(path: Path) -> None:
    """UserError where an archive unpacks to far more than its size: torch itself stores tensors uncompressed."""
    if not _is_archive(path):
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
        keys = ", ".join(str(key) for key in list(content)[:8]) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"model.weights={path} is not a state dict (names with tensors); it holds {keys or 'nothing'}")
    return content


def match_names(
    network: nn.Module, state: dict[str, Tensor], ema: bool | str = "auto"
) -> tuple[dict[str, Tensor], list[str]]:
    """Remove from the names of weights what a training script put in front of them.

    One prefix is removed where the names behind it are those of the network, such as `model.` or `module._orig_mod.`; names
    without it, such as those of a loss, are left out. Of two sets of weights under two prefixes the moving average, whose
    prefix has the word `ema`, and the other are told apart.

    Args:
        network: The network.
        state: Tensors by their names.
        ema: As in `read_checkpoint`, for two sets of weights.

    Returns:
        The tensors by their names in the network, or as they are where no prefix fits, and what was done in words.
    """
    expected = network.state_dict()
    if not expected or set(state) == set(expected):
        return state, []
    notes = []
    plain = {key: value for key, value in state.items() if key != COUNTER or COUNTER in expected}
    if len(plain) < len(state):
        notes.append("average of torch's AveragedModel")
    for wrapper in TORCH_WRAPPERS:
        if not any(wrapper in key for key in expected) and any(wrapper in key for key in plain):
            shorter = {key.replace(wrapper, ""): value for key, value in plain.items()}
            if len(shorter) < len(plain):  # two tensors would share a name
                return state, []
            plain = shorter
            notes.append(f"{wrapper} removed from the names")
    if set(plain) == set(expected):
        return plain, notes
    ends = [f".{name}" for name in (next(iter(expected)), [*expected][-1])]
    prefixes = {key[: 1 - len(end)] for end in ends for key in plain if key.endswith(end)}
    sets = {
        prefix: {key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)}
        for prefix in sorted(prefixes)
    }
    bare = {key: value for key, value in plain.items() if key in expected}
    if not bare:
        shared = {prefix: len(set(tensors) & set(expected)) for prefix, tensors in sets.items()}
        nearest = max(sets, key=lambda prefix: shared[prefix], default="")
        if nearest and 2 * shared[nearest] > len(expected):  # then the misfits alone are worth telling
            state = {key: value for key, value in plain.items() if not key.startswith(nearest)} | sets[nearest]
    sets[""] = bare
    fitting = {prefix: tensors for prefix, tensors in sets.items() if set(tensors) == set(expected)}
    rest = [key for key in plain if not any(key.startswith(prefix) for prefix in fitting)]
    if not fitting or ("" in fitting and sum(map(len, fitting.values())) != len(plain)):
        return state, []
    if rest:  # of other modules of a LightningModule, such as its loss
        notes.append(f"{', '.join(rest[:3])}{f' and {len(rest) - 3} more' if len(rest) > 3 else ''} left out")
    averages = [prefix for prefix in fitting if "ema" in prefix.lower().replace("_", ".").split(".")]
    others = [prefix for prefix in fitting if prefix not in averages]
    wanted = (others or averages) if ema is False else (averages or others)
    if len(wanted) > 1:
        return plain, []
    if len(fitting) > 1:
        notes.append("moving average" if wanted[0] in averages else "last weights, not the moving average")
    return fitting[wanted[0]], notes + ([f"prefix {wanted[0]} removed"] if wanted[0] else [])


def fit_weights(
    network: nn.Module,
    state: dict[str, Tensor],
    origin: str,
    ema: bool | str = "auto",
    name_setting: Callable[[str], str] = "model.{}".format,
) -> str:
    """Load weights into a network.

    Args:
        network: The network.
        state: Tensors by their names in the network, perhaps behind a prefix; see `match_names`.
        origin: Where they come from, for the message.
        ema: As in `match_names`.
        name_setting: Gives the setting of the number of `classes` or `channels` as it is typed, for the message.

    Returns:
        What was done to the names in words; empty where nothing was.

    Raises:
        UserError: Names, shapes or types do not fit, each kind with examples; or a value is not finite.
    """
    expected = network.state_dict()
    state, notes = match_names(network, state, ema)
    _check_names_and_shapes(expected, state, origin, name_setting)
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
    single = [
        key for key, value in state.items() if value.dtype == torch.float64 and expected[key].dtype == torch.float32
    ]
    network.load_state_dict(state)
    return ", ".join([*notes, "float64 weights rounded to float32"] if single else notes)


def find_head(network: nn.Module, state: dict[str, Tensor], classes: int) -> list[str]:
    """Find the tensors of the last layer where weights are for another number of classes.

    Args:
        network: The network.
        state: Tensors by their names in the network.
        classes: Number of outputs of the network.

    Returns:
        The names of tensors that differ from those of the network in their first dimension alone, which is the number of
        classes in the network; nothing where any other tensor differs.
    """
    expected = network.state_dict()
    others = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    heads = [name for name in others if state[name].ndim and expected[name].shape == (classes, *state[name].shape[1:])]
    return heads if len(heads) == len(others) else []


def _check_names_and_shapes(
    expected: dict[str, Tensor], state: dict[str, Tensor], origin: str, name_setting: Callable[[str], str]
) -> None:
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} is {list(state[key].shape)}, the network needs {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    whole = not missing and not unexpected
    if whole and (count := _find_count(expected, state, 0)) is not None:
        setting = _set_count(name_setting("classes"), count)
        names = ", or to a list or a text file of their names" if setting.startswith("model.classes=") else ""
        raise UserError(f"the weights ({origin}) are for {count} classes: {shapes[0]}; set {setting}{names}")
    if whole and len(shapes) == 1 and (count := _find_count(expected, state, 1)) is not None:
        setting = _set_count(name_setting("channels"), count)
        images = "" if setting.startswith("model.channels=") else f" for the network and model.channels={count}"
        raise UserError(
            f"the weights ({origin}) are for images of {count_noun(count, 'channel')}: {shapes[0]}; set "
            f"{setting}{images}, with their model.mean and model.std"
        )
    if missing or unexpected or shapes:
        report = [f"the weights ({origin}) do not fit the network:"]
        report += (
            _list_examples("missing", missing)
            + _list_examples("unexpected", unexpected)
            + _list_examples("other shape", shapes)
        )
        raise UserError("\n".join(report))


def _set_count(setting: str, count: int) -> str:
    """A setting with its value in front of further words."""
    key, space, words = setting.partition(" ")
    return f"{key}={count}{space}{words}"


def _find_count(expected: dict[str, Tensor], state: dict[str, Tensor], axis: int) -> int | None:
    """The size along an axis of weights that differ from the network in that alone; None where they do otherwise.

    Along axis 0 it is the number of classes, along axis 1 of a convolution that of channels.
    """
    pairs = [(expected[key].shape, state[key].shape) for key in expected if state[key].shape != expected[key].shape]
    least = 1 if axis == 0 else 4
    alike = all(
        len(given) == len(needed) >= least and given[:axis] + given[axis + 1 :] == needed[:axis] + needed[axis + 1 :]
        for needed, given in pairs
    )
    counts = {given[axis] for _, given in pairs} if alike else set()
    return counts.pop() if len(counts) == 1 else None


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
