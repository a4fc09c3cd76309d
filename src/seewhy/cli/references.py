"""What the values of a config refer to: aliases of yaml and `${...}` are bounded, the environment is kept secret.

Hydra uses its own node of a config as soon as it is composed; what that node names is checked here, before.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, ListConfig, OmegaConf

from seewhy.core.disclosure import remember_secret
from seewhy.core.errors import UserError, shorten_path

LARGEST = 200_000
"""Values that the aliases of a yaml file may stand for, and characters that the references of a config may."""
REFERENCE = re.compile(r"\$\{(?:oc\.(?:select|dict\.keys|dict\.values):)?\s*(\.*[^\s${}:,]+)\s*[,}]")
"""A reference to another value of the config."""
ALIAS = re.compile(r"(?:^|[\s\[{,:?-])\*\w", re.MULTILINE)
ABSENT = object()
HYDRA_CLASSES = re.compile(
    r"hydra_plugins(\.\w+)+|hydra\._internal\.core_plugins\.basic_\w+\.Basic\w+|hydra\.experimental\.callbacks\.\w+"
    r"|seewhy\.cli\.(sweep\.SweepSummary|run_folders\.RunFolders|early_checks\.EarlyChecks)"
    r"|logging\.(StreamHandler|FileHandler|NullHandler)|colorlog\.\w+"
)
"""Classes that Hydra's own node may name."""
HYDRA_COMMANDS = re.compile(
    r"hydra\.job\.env_set\b|hydra\.launcher\.(setup|python|srun_args|additional_parameters(?!\.requeue$))\b"
)
"""Keys of it that end in a shell or in the environment of other programs."""
INSIDE = ("${hydra.runtime.output_dir}", "${hydra.run.dir}", "${hydra.sweep.dir}")
"""Where a log file may lie."""
STREAMS = ("ext://sys.std", "")
PASSED = (("hydra", "overrides"), ("hydra", "runtime"), ("hydra", "help"), ("hydra", "hydra_help"))
"""Parts of the node that are texts alone."""


@functools.cache
def bound_references() -> None:
    """Read yaml files and the environment through the functions of this module, once in a process."""
    OmegaConf.register_new_resolver("oc.env", _read_environment, replace=True)
    OmegaConf.load = staticmethod(load_config)  # type: ignore[method-assign]
    compose = ConfigLoaderImpl.load_configuration

    @functools.wraps(compose)
    def compose_and_check(*arguments: Any, **options: Any) -> DictConfig:
        config = compose(*arguments, **options)
        check_hydra_node(OmegaConf.to_container(config.hydra))
        return config

    ConfigLoaderImpl.load_configuration = compose_and_check  # type: ignore[method-assign]


def check_hydra_node(plain: Any) -> None:
    """Check what Hydra's own node of a config would run, which a yaml file from elsewhere can write to.

    Args:
        plain: The node as plain containers, with its references.

    Raises:
        UserError: It names a class, a handler of log messages, a command of a launcher or a variable of the environment
            that no config of Hydra, of its plugins or of seewhy does, and the command does not say `trust_config=true`.
    """
    typed = {text.replace(" ", "").lower() for text in plain["overrides"]["task"]}
    if "trust_config=true" in typed:
        return
    for key, value in _list_hydra_values(plain, "hydra"):
        name = key.rpartition(".")[2]
        logs = re.match(r"hydra\.(job|hydra)_logging\b", key)
        if name in ("_target_", "()", "factory") or (logs and name == "class"):
            wrong = not (isinstance(value, str) and HYDRA_CLASSES.fullmatch(value))
        elif logs:
            wrong = (name == "filename" and not str(value).startswith(INSIDE)) or "ext://" in str(value).replace(
                *STREAMS
            )
        else:
            wrong = bool(HYDRA_COMMANDS.match(key))
        if wrong:
            raise UserError(
                f"{key}={str(value)[:80]} is outside what a config may have Hydra do: it would run code, or write a file, "
                "that no config of Hydra or seewhy names; if you know and trust every file of this config, add "
                "trust_config=true to the command"
            )


def _list_hydra_values(plain: Any, key: str) -> Iterator[tuple[str, Any]]:
    """(key path, value) of each value that is no container, or an empty one."""
    pairs: Any = plain.items() if isinstance(plain, Mapping) else enumerate(plain) if isinstance(plain, list) else ()
    if not pairs or not plain:
        if plain not in (None, [], {}):
            yield key, plain
        return
    for name, value in pairs:
        if (key, name) not in PASSED:
            yield from _list_hydra_values(value, f"{key}.{name}")


def _read_environment(name: str, default: Any = ABSENT) -> str | None:
    """The value of a variable, which the run does not tell, or the default."""
    if name in os.environ:
        remember_secret(name, os.environ[name])
        return os.environ[name]
    if default is ABSENT:
        raise KeyError(f"Environment variable '{name}' not found")
    return None if default is None else str(default)


def load_config(file_: str | Path | IO[Any], load: Any = OmegaConf.load) -> DictConfig | ListConfig:
    """Load a yaml file whose aliases are bounded: ten lines can stand for more values than there is memory.

    Args:
        file_: Its path, or the open file.
        load: What builds the config.

    Returns:
        The config.

    Raises:
        UserError: Its aliases stand for too much, or it is nested too deeply.
    """
    if isinstance(file_, str | Path):
        with Path(file_).open("rb") as file:
            return load_config(file, load)
    name = shorten_path(str(getattr(file_, "name", "a yaml file")))
    try:
        _check_aliases(file_.read(), name)
        file_.seek(0)
        config: DictConfig | ListConfig = load(file_)
    except RecursionError:
        raise UserError(f"{name} is nested too deeply") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise UserError(f"{name} cannot be read as yaml: {' '.join(str(error).split())[:200]}") from None
    return config


def _check_aliases(content: str | bytes, name: str) -> None:
    """UserError where the aliases of a document stand for too many values, or for what holds themselves."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    if not ALIAS.search(text):
        return
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeError):
        return  # answered where it is loaded
    sizes: dict[int, int] = {}

    def measure(node: yaml.Node | None) -> int:
        if isinstance(node, yaml.CollectionNode):
            if id(node) not in sizes:
                sizes[id(node)] = LARGEST + 1  # while it is measured: it holds itself
                pairs = node.value if isinstance(node, yaml.MappingNode) else [(each,) for each in node.value]
                sizes[id(node)] = 1 + sum(measure(each) for pair in pairs for each in pair)
            return sizes[id(node)]
        return 1

    if measure(root) > LARGEST:
        raise UserError(f"{name}: its aliases (*) stand for more than {LARGEST:,} values; write them out, or fewer")


def check_references(plain: Any) -> None:
    """Check that the references of a config, filled in, stay within bounds.

    Args:
        plain: The config as plain containers with its references.

    Raises:
        UserError: They double again and again, or are nested too deeply.
    """
    sizes: dict[tuple[str, ...], int] = {}

    def measure(value: Any, path: tuple[str, ...]) -> int:
        if path not in sizes:
            sizes[path] = 0  # while it is measured: a circle, which is answered where it is resolved
            sizes[path] = _add_up(value, path)
        return sizes[path]

    def _add_up(value: Any, path: tuple[str, ...]) -> int:
        if isinstance(value, Mapping):
            return 1 + sum(measure(each, (*path, str(key))) for key, each in value.items())
        if isinstance(value, list):
            return 1 + sum(measure(each, (*path, str(place))) for place, each in enumerate(value))
        total = 1
        for key in REFERENCE.findall(value) if isinstance(value, str) and "${" in value else ():
            target = _locate(key, path)
            total += measure(_look_up(plain, target), target)
            if total > LARGEST:
                raise UserError(
                    f"{'.'.join(path)}: what it refers to grows to more than {LARGEST:,} values; refer to less"
                )
        return total + (len(value) if isinstance(value, str) else 0)

    try:
        total = measure(plain, ())
    except RecursionError:
        raise UserError("the references of the config are nested too deeply") from None
    if total > 50 * LARGEST:
        raise UserError(f"the config, filled in, holds more than {50 * LARGEST:,} values; refer to less")


def _locate(key: str, path: Sequence[str]) -> tuple[str, ...]:
    """The path of a reference, absolute or relative to the value that holds it."""
    words = tuple(word for word in re.split(r"[.\[\]]", key) if word)
    dots = len(key) - len(key.lstrip("."))
    return (*path[: len(path) - dots], *words) if dots else words


def _look_up(plain: Any, path: Sequence[str]) -> Any:
    for word in path:
        if isinstance(plain, Mapping):
            plain = plain.get(word)
        elif isinstance(plain, list) and word.isdigit() and int(word) < len(plain):
            plain = plain[int(word)]
        else:
            return None
    return plain
