"""Networks from the user's own code: a class or function in the current folder or in an installed package."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from seewhy.core.errors import UserError
from seewhy.core.files import add_current_folder
from seewhy.models.architectures import Architecture

if TYPE_CHECKING:
    from torch import nn

    from seewhy.core.facts import Facts

EXAMPLE = (
    "model.build=mynet:MyNet for the class or function MyNet of mynet.py in this folder, or of an installed package"
)
COUNTS = ("num_classes", "n_classes", "num_outputs", "num_labels")
"""Arguments by which networks are told how many outputs they have."""
CHANNELS = ("channels", "in_channels", "in_chans", "num_channels", "n_channels", "input_channels")
"""Arguments by which networks are told how many channels their images have."""


@dataclass(frozen=True)
class Imported(Architecture):
    """A network that the user's own code builds; the code of its module runs."""

    loads_weights: ClassVar[bool] = True

    build: str | None
    """`module:name` of a class or function that returns the network."""

    def __post_init__(self) -> None:
        if self.build is None:
            raise UserError(f"model=own needs the code of the network: {EXAMPLE}")
        if re.fullmatch(r"[\w/.\\-]+\.py(:\w+)?", self.build):
            path, _, name = self.build.partition(":")
            module = ".".join(Path(path).with_suffix("").parts)
            raise UserError(f"model.build={self.build}: write module:name, such as {module}:{name or 'MyNet'}")
        if re.fullmatch(r"\w+(\.\w+)+", self.build):
            module, _, name = self.build.rpartition(".")
            raise UserError(f"model.build={self.build}: write module:name, such as {module}:{name}")
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", self.build):
            raise UserError(f"model.build={self.build} must be module:name: {EXAMPLE}")
        add_current_folder()
        package = self.build.partition(":")[0].partition(".")[0]
        if importlib.util.find_spec(package) is None:
            raise _describe_absence(self.build, package)

    def facts(self) -> Facts | None:
        """Own code says nothing of classes and preprocessing."""
        return None

    def missing(self) -> str | None:
        """Say that nobody publishes weights of such a network."""
        return "nobody publishes weights of a network of your own"

    @property
    def advice(self) -> str:
        """Give a file, or say that the code loads them."""
        return (
            f"  give them: model.weights=<file.safetensors or .pth>; model.weights=built where {self.build} loads them "
            "itself; or model.weights=random"
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Own code may call its arguments as it likes.

        Args:
            options: Its arguments.
        """

    def name_setting(self, key: str, options: Mapping[str, Any]) -> str:
        """Name the argument of the own code that gives the network its number of classes or channels.

        Args:
            key: `classes` or `channels`.
            options: Its arguments that were set.

        Returns:
            The setting as it is typed; with `<name>` and all arguments where none is called like that.
        """
        names = list(_list_parameters(import_target(str(self.build))) or {})
        known = COUNTS if key == "classes" else CHANNELS
        name = next((name for name in names if name in known), None)
        if name in COUNTS and name not in options:
            return "model.classes"
        takes = f" ({self.build} takes {', '.join(names) or 'no arguments: change its code'})"
        return f"model.arguments.{name}" if name else f"model.arguments.<name>{takes}"

    def network(self, num_classes: int, size: int | tuple[int, int], channels: int = 3, /, **options: Any) -> nn.Module:
        """Build the network from `options`, and `num_classes` where it takes that and there are any.

        Args:
            num_classes: Number of outputs; 0 where it is not known.
            size: Not used.
            channels: Not used.
            **options: Its arguments.

        Returns:
            The network.

        Raises:
            UserError: There is no such class or function, it takes other arguments, fails, or returns something else.
        """
        import torch
        from torch import nn

        with torch.random.fork_rng(devices=[]):  # what a module draws the first time it is imported changes no weights
            target = import_target(str(self.build))
        if isinstance(target, nn.Module):
            if options:
                raise UserError(f"model.arguments={options}: {self.build} is a network already and takes no arguments")
            return target
        parameters = _list_parameters(target)
        count = next((name for name in COUNTS if parameters and name in parameters), None)
        if count and num_classes and count not in options:
            options[count] = num_classes
        self._check_arguments(parameters, options)
        try:
            network = target(**options)
        except UserError:
            raise
        except Exception as error:  # own code raises what it likes
            raise UserError(f"model.build={self.build} failed: {type(error).__name__}: {error}") from error
        if not isinstance(network, nn.Module) and type(network).__name__ != "ExportedProgram":
            raise UserError(
                f"model.build={self.build} gives {type(network).__name__}, not a torch.nn.Module; name a class that is "
                "one, or a function that returns one"
            )
        return network

    def hash_code(self) -> str:
        """Hash the files of the package, or of the modules in the current folder, that were imported.

        Returns:
            SHA-256 over names and contents.
        """
        top = str(self.build).partition(":")[0].partition(".")[0]
        here = Path.cwd()
        digest = hashlib.sha256()
        for name, module in sorted(sys.modules.items()):
            file = getattr(module, "__file__", None)
            own = name.partition(".")[0] == top or (file is not None and Path(file).parent == here)
            if own and file is not None and Path(file).is_file():
                digest.update(name.encode() + b"\0" + Path(file).read_bytes())
        return digest.hexdigest()

    def _check_arguments(self, parameters: dict[str, inspect.Parameter] | None, options: dict[str, Any]) -> None:
        if parameters is None:
            return
        kinds = inspect.Parameter
        takes_any = any(each.kind is kinds.VAR_KEYWORD for each in parameters.values())
        names = [
            name for name, each in parameters.items() if each.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
        ]
        unknown = [name for name in options if name not in names and not takes_any]
        lacking = [name for name in names if parameters[name].default is kinds.empty and name not in options]
        if unknown:
            takes = ", ".join(names) or "no arguments"
            raise UserError(f"model.arguments.{unknown[0]}: {self.build} takes no such argument; it takes {takes}")
        if lacking:
            hint = " or model.classes=" if lacking[0] in COUNTS else ""
            raise UserError(f"{self.build} needs {', '.join(lacking)}: set model.arguments.{lacking[0]}={hint}")


def import_target(build: str) -> Callable[..., Any]:
    """Import a class or function; a module in the current folder is seen as python sees it when started there.

    Args:
        build: `module:name`.

    Returns:
        The class or function.

    Raises:
        UserError: The module or the name does not exist, the module fails, or it hides behind an installed one.
    """
    module_name, _, path = build.partition(":")
    folder = add_current_folder()
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise _describe_absence(build, module_name) from error
        raise UserError(f"model.build={build}: {module_name} imports {error.name}, which is not installed") from error
    except Exception as error:  # own code raises what it likes
        raise UserError(
            f"model.build={build}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    _check_origin(build, value, folder)
    for name in path.split("."):
        if not hasattr(value, name):
            raise UserError(f"model.build={build}: {module_name} has no {path}; it has {list_builders(value)}")
        value = getattr(value, name)
    if not callable(value):
        raise UserError(f"model.build={build} is {type(value).__name__}, neither a class nor a function")
    return value


def _describe_absence(build: str, module: str) -> UserError:
    return UserError(
        f"model.build={build}: there is no module {module!r}, neither {_spell_file(module)} in {os.getcwd()} nor an "
        f"installed package{_name_near_files(module)}"
    )


def _check_origin(build: str, module: Any, folder: Path) -> None:
    """UserError where the current folder has a module of that name and another one was imported."""
    name = build.partition(":")[0]
    beside = folder / _spell_file(name)
    origin = getattr(module, "__file__", None)
    if beside.is_file() and (origin is None or not Path(origin).samefile(beside)):
        raise UserError(f"model.build={build}: {name} is also a module elsewhere ({origin}); rename {beside.name}")


def _spell_file(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _name_near_files(module: str) -> str:
    import difflib

    near = difflib.get_close_matches(module, [path.stem for path in sorted(Path().glob("*.py"))], n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def list_builders(holder: Any) -> str:
    """List what can be called in a module, those defined there first.

    Args:
        holder: A module.

    Returns:
        At most twelve names.
    """
    names = [name for name, value in vars(holder).items() if callable(value) and not name.startswith("_")]
    own = [name for name in names if getattr(vars(holder)[name], "__module__", "") == getattr(holder, "__name__", None)]
    return ", ".join((own or names)[:12]) or "no class and no function"


def _list_parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The parameters of a class or function; None where Python cannot tell."""
    try:
        return dict(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return None
