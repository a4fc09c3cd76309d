"""What Hydra could not compose, as one message with what was probably meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.core.errors import UserError, find_nearest, simplify

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "explainer": {
        "ig": ("integrated_gradients",),
        "sg": ("smooth_grad",),
        "ixg": ("input_x_gradient",),
        "gradxinput": ("input_x_gradient",),
        "gradientxinput": ("input_x_gradient",),
        "gradient": ("saliency",),
        "gradients": ("saliency",),
        "vanilla": ("saliency",),
        "gradcampp": ("grad_cam_plus_plus",),
        "gbp": ("guided_backprop",),
        "deconvnet": ("deconvolution",),
        "expectedgradients": ("gradient_shap",),
        "deepshap": ("deep_lift", "gradient_shap"),
        "attnlrp": ("lrp",),
        "cplrp": ("lrp",),
        "sobel": ("edges",),
    },
    "trainer": {"cuda": ("gpu",)},
}
"""What choices of a group are called elsewhere; letters alone, in lower case."""
SEVERAL = ("callbacks", "corruption", "logger", "metric")
"""Groups of which several choices are taken at once."""


def explain_mistake(error: Exception, configs: Path, task: str) -> UserError:
    """Turn an error that Hydra raised while it composed a config into a message with what was probably meant.

    Args:
        error: A HydraException.
        configs: The folder of the yaml files.
        task: The name of the primary config.

    Returns:
        The error to be shown.
    """
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return describe_unknown_choice(error.missing_cfg_file, list(error.options or ()), configs)
    if isinstance(error, OverrideParseException):
        return _describe_unreadable(error)
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        asked = re.match(r"Could not override '(.+?)'", str(error))
        full_key = asked.group(1) if asked else str(cause.full_key)
        if str(cause.key) not in cause.parent_node:
            return describe_unknown_key(full_key, cause.parent_node, str(cause.full_key), configs)
    group = re.match(r"Could not override '(.+?)'\. No match in the defaults list", str(error))
    if group:
        return UserError(f"{group.group(1)}= is a group that {task} does not have; +{group.group(1)}= adds it")
    twice = re.match(r"Multiple values for (\S+)\. To override a value use 'override \S+: (.+)'", str(error))
    if twice:
        name, choice = twice.groups()
        fix = (
            f"list all of them: '{name}=[...,{choice}]'" if name in SEVERAL else f"write {name}={choice}, without the +"
        )
        return UserError(f"+{name}={choice}: {name} is chosen already; {fix}")
    if str(error).startswith("Ambiguous value"):
        return _describe_ambiguous(error, [path.name for path in configs.iterdir() if path.is_dir()])
    lines = [str(error).strip(), str(cause).split("\n")[0] if cause and str(cause) not in str(error) else ""]
    return UserError("\n".join(line for line in lines if line))


def describe_unknown_choice(path: str, options: list[str], configs: Path) -> UserError:
    """Describe that a group has no such choice.

    Args:
        path: `group/choice`.
        options: The choices of the group, where Hydra names them.
        configs: The folder of the yaml files.

    Returns:
        The error to be shown.
    """
    group, _, choice = path.rpartition("/")
    options = options or sorted(file.stem for file in (configs / group).glob("*.yaml"))
    if not options:
        return UserError(f"there is no config {path!r}")
    known = [name for name in SYNONYMS.get(group, {}).get(simplify(choice), ()) if name in options]
    likely = [f"{group}={name}" for name in known or find_nearest(choice, options)]
    if group == "model" and "timm" in options:
        import timm

        names = timm.list_models()
        if choice in names:
            likely = [f"model=timm model.name={choice}"]
        elif not likely:
            likely = [f"model=timm model.name={name}" for name in find_nearest(choice, names)]
    hint = f"; {_ask(likely)}" if likely else ""
    return UserError(f"{group}={choice}: there is no {group} {choice!r}{hint}\n  choices: {', '.join(options)}")


def describe_unknown_key(
    full_key: str, parent: Mapping[Any, Any], failed: str | None = None, configs: Path | None = None, choice: str = ""
) -> UserError:
    """Describe that a config has no such key.

    Args:
        full_key: The key as it was given, such as `explainer.n_step`.
        parent: The config in which it was looked up.
        failed: The beginning of the key whose last name is not in `parent`; None: all of it.
        configs: The folder of the yaml files, to name other choices that have the key.
        choice: The name of `parent` in the message; by default its group and class.

    Returns:
        The error to be shown.
    """
    failed = failed or full_key
    group, _, name = failed.rpartition(".")
    keys = [str(key) for key in parent if not str(key).startswith("_") and key != "hydra"]
    prefix = f"{group}." if group else ""
    rest = full_key.removeprefix(failed)
    target = parent.get("_target_", "") if group else ""
    title = choice or (f"{group} ({str(target).rpartition('.')[2]})" if target else group)
    elsewhere = find_choices_with_key(group, name, configs) if configs and group else []
    if elsewhere:  # exactly this key is more likely than one that is like it
        meant = f"choices with such a key: {group}={', '.join(elsewhere)}"
    else:
        meant = _ask([f"{prefix}{key}{rest}=" for key in find_nearest(name, keys)])
    listed = f"\n  keys of {title}: " if group else "\n  groups and keys: "
    hint = f"; {meant}" if meant else ""
    return UserError(f"{full_key}=: there is no such key{hint}{listed}{', '.join(keys) or 'none'}")


def find_choices_with_key(group: str, key: str, configs: Path) -> list[str]:
    """Find the choices of a group whose yaml has a key."""
    paths = sorted((configs / group).glob("*.yaml"))
    return [path.stem for path in paths if key in (OmegaConf.load(path) or {})]


def describe_broken_reference(error: OmegaConfBaseException) -> UserError:
    """Describe a reference of a config that leads nowhere, or a value that is missing.

    Args:
        error: As OmegaConf raises it while it fills in a config.

    Returns:
        The error to be shown.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    return UserError(f"the config cannot be filled in: {lines[0] if lines else error}{f' in {key}' if key else ''}")


def quote_for_shell(word: str) -> str:
    r"""Quote a word for a shell, in double quotes where none of its signs means more there.

    >>> print(quote_for_shell("target='great white shark'"), quote_for_shell('target="it\'s x"'))
    "target='great white shark'" "target=\"it's x\""

    Args:
        word: Any word.

    Returns:
        What is typed.
    """
    if any(sign in word for sign in "$`!\\"):
        return shlex.quote(word)
    escaped = word.replace('"', '\\"')
    return f'"{escaped}"'


def _ask(likely: list[str]) -> str:
    return f"did you mean {' or '.join(likely)}?" if likely else ""


def _describe_unreadable(error: OverrideParseException) -> UserError:
    key, _, value = error.override.partition("=")
    if not value or not re.fullmatch(r"[~+\w./@:-]+", key):
        return UserError(f"{error.override!r} is not understood: settings are key=value, such as explainer=rise")
    if value.startswith(("[", "{")):
        return UserError(
            f"{error.override!r} is not understood: a list needs both brackets and quotes, such as "
            "'metric=[deletion,insertion]'"
        )
    value = value.strip("\"'")
    typed = f'{key}="{value}"' if "'" in value else f"{key}='{value}'"
    return UserError(
        f"{error.override!r} is not understood: a value with signs such as ' ( ) [ ] {{ }} = , : needs quotes inside of "
        f"the shell's, such as {quote_for_shell(typed)}"
    )


def _describe_ambiguous(error: Exception, choices: Collection[str]) -> UserError:
    asked = re.search(r"argument '(.+?)'\n", str(error))
    key, _, value = (asked.group(1) if asked else "key=a,b").partition("=")
    if key in choices and key not in SEVERAL:
        return UserError(f"{key}={value}: only one {key} is taken; a sweep over them needs -m: -m {key}={value}")
    return UserError(
        f"{key}={value}: a list needs brackets and quotes ('{key}=[{value}]'), a sweep over the values needs -m"
    )
