"""The frame of every command: Hydra composes and runs a task, and what it cannot compose ends as one message."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli import help, resume, run_folders, tasks
from seewhy.cli.config import check_groups, defer_settings, find_config_folder, normalise_overrides
from seewhy.cli.own_configs import register_folders
from seewhy.cli.references import bound_references
from seewhy.cli.suggestions import describe_broken_reference, explain_mistake
from seewhy.core import signals
from seewhy.core.disclosure import clean_message
from seewhy.core.errors import FULL, UNUSABLE, UserError, shorten_path
from seewhy.core.files import CHECKOUT

FULL_ERROR = "HYDRA_FULL_ERROR"


def run_task(task: str, arguments: Sequence[str]) -> None:
    """Run the command of a task; a user's mistake ends as one message and exit code 2.

    With HYDRA_FULL_ERROR=1 in the environment errors of Hydra are shown as they are.

    Args:
        task: One of `seewhy.cli.program.TASKS`.
        arguments: The overrides and Hydra's flags, which are the last words of `sys.argv`.

    Raises:
        SystemExit: With the exit code of the command, where that is not 0.
    """
    signals.outlive_readers()
    program = sys.argv[: len(sys.argv) - len(arguments)]
    try:
        configs = find_config_folder()
        register_folders()
        ordered = order_flags(arguments)
        if "-sc" in ordered and "uninstall=bash" in ordered:
            return print(write_end_of_completion(Path(program[0]).name))
        given = resume.prepend_earlier_overrides(ordered, task)
        overrides = normalise_overrides(given, task)
        check_groups(overrides)
        command = [*program, *normalise_overrides(given)]
        if {"-m", "--multirun"} & set(ordered):
            overrides = defer_settings(overrides)
    except UserError as error:
        _exit_with(error)
    _share_sources()
    help.register_resolvers()
    run_folders.register_network_name()
    bound_references()
    owner = os.getpid()

    def start(cfg: DictConfig) -> None:
        sys.argv = command  # also in the processes of a launcher
        if os.getpid() == owner:
            tasks.execute(tasks.TASKS[task], cfg)
        else:
            tasks.execute_in_worker(tasks.TASKS[task], cfg, owner)

    sys.argv = [program[0], *overrides]  # Hydra reads all words but the first
    try:
        with_one_message(hydra.main(version_base="1.3", config_path=str(configs), config_name=task)(start), task)()
    finally:
        sys.argv = command


def order_flags(arguments: Sequence[str]) -> list[str]:
    """Put Hydra's flags in front of the overrides, which its parser takes in one piece alone.

    >>> order_flags(["seed=1", "-m", "explainer=rise,lime", "--config-dir", "mine"])
    ['-m', '--config-dir', 'mine', 'seed=1', 'explainer=rise,lime']

    Args:
        arguments: As typed.

    Returns:
        The same words.

    Raises:
        UserError: A flag does not exist, or has a value that it does not take.
    """

    def refuse(message: str) -> NoReturn:
        flags = ", ".join(action.option_strings[0] for action in parser._actions if action.option_strings)
        raise UserError(f"{message}; settings are key=value, the flags are {flags}")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    overrides = parser.parse_intermixed_args([word for word in arguments if word != "--version"]).overrides
    left, flags = list(overrides), []
    for word in arguments:
        if left and word == left[0]:
            left.pop(0)
        else:
            flags.append(word)
    return [*flags, *overrides]


def write_end_of_completion(program: str) -> str:
    """Write what ends the completion of a program in bash; what Hydra writes leaves one that calls a missing function.

    Args:
        program: Its name.

    Returns:
        Lines for `eval`.
    """
    return (
        f"complete -r {shlex.quote(program)} 2> /dev/null\n"
        'case "$_HYDRA_OLD_COMP" in "" | *hydra_bash_completion*) ;; *) eval "$_HYDRA_OLD_COMP" ;; esac\n'
        "unset -f hydra_bash_completion\nunset _HYDRA_OLD_COMP"
    )


def _share_sources() -> None:
    """Let jobs that a launcher starts elsewhere import the sources of this checkout."""
    sources = CHECKOUT / "src"
    if sources.is_dir():
        paths = [str(sources), os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)


def with_one_message(start: Callable[[], None], task: str) -> Callable[[], None]:
    """Wrap a command such that a typo ends as one message with the nearest names, and exit code 2.

    Args:
        start: A function decorated with `hydra.main`.
        task: The name of its primary config.

    Returns:
        The same command, whose Hydra exceptions are messages unless HYDRA_FULL_ERROR is set.
    """

    @functools.wraps(start)
    def run() -> None:
        if FULL_ERROR in os.environ:
            return start()
        os.environ[FULL_ERROR] = "1"  # Hydra then hands its errors on instead of printing them
        try:
            start()
        except UserError as error:
            if _has_begun(error):
                raise
            _exit_with(error)
        except RecursionError as error:
            if _has_begun(error):
                raise
            _exit_with(UserError("a value of the command or of its yaml files is nested too deeply"))
        except HydraException as error:
            _exit_with(explain_mistake(error, find_config_folder(), task))
        except OmegaConfBaseException as error:
            if _has_begun(error):
                raise
            _exit_with(describe_broken_reference(error))
        except OSError as error:  # Hydra writes files of its own before a task begins
            if error.errno not in (*FULL, *UNUSABLE) or _has_begun(error):
                raise
            place = shorten_path(error.filename or "the run folder")
            _exit_with(
                UserError(f"{place} cannot be written ({error.strerror}); name another folder with hydra.run.dir=")
            )
        finally:
            del os.environ[FULL_ERROR]

    return run


def _has_begun(error: BaseException) -> bool:
    """Whether an error comes from inside of a task, which has a record by then."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == tasks.__name__ for frame, _ in frames)


def _exit_with(mistake: UserError) -> NoReturn:
    print(wrap_message(clean_message(f"error: {mistake}")), file=sys.stderr)
    raise SystemExit(2) from None


def wrap_message(message: str) -> str:
    """Fold each line of a message to the width of the terminal.

    Args:
        message: Lines of any length.

    Returns:
        Lines of at most 100 columns; continuations are indented by 4.
    """
    width = max(40, min(100, shutil.get_terminal_size().columns))
    fold = functools.partial(textwrap.fill, width=width, break_on_hyphens=False, break_long_words=False)
    return "\n".join(fold(line, subsequent_indent=" " * 4) for line in message.split("\n"))
