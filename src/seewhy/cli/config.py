"""The config of a command: where its yaml files are, how it is composed in Python, and checks of its settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli.foreign import ELSEWHERE, TRAINING, check_direction
from seewhy.cli.instantiate import check_own_code, check_setting, check_targets, list_objects
from seewhy.cli.own_configs import register_folders
from seewhy.cli.references import bound_references, check_references
from seewhy.cli.suggestions import describe_broken_reference, explain_mistake
from seewhy.core.errors import UserError
from seewhy.core.files import add_current_folder, find_resources
from seewhy.core.settings import (
    Count,
    CountFrom2,
    Folder,
    OneOf,
    PathNumber,
    ProbeBatchSize,
    Seed,
    TargetList,
    Text,
    Threads,
    check_value,
    write_value,
)

CONFIGS = find_resources("configs", "configs")
"""The yaml files: those of an installed package, else those of the checkout."""
EMPTIED = re.compile(r"(callbacks|logger|metric|ground_truth)=(\{\}|null)?")
"""An override that empties a group which takes a list."""


def normalise_overrides(overrides: Sequence[str], task: str = "") -> list[str]:
    """Read an empty group as "none of its choices": Hydra would merge {} into the default choice, and refuse null.

    An argument of the network is added where it is new: Hydra would ask for a + in front of it.

    Args:
        overrides: As typed.
        task: Whose command it is; `ground_truth` takes a list of explainers.

    Returns:
        The overrides, with `<group>=[]` for `<group>={}`, `<group>=null` and `<group>=` of a group that takes a list, and
        `++model.arguments.<name>=` for `model.arguments.<name>=`, and without `experiment=null`, which is how every
        command begins.

    >>> normalise_overrides(["logger={}", "metric=null", "logger=csv", "explainer={}", "model.arguments.depth=3"])
    ['logger=[]', 'metric=[]', 'logger=csv', 'explainer={}', '++model.arguments.depth=3']
    """
    plain = [text for text in overrides if text.replace(" ", "") not in ("experiment=null", "experiment=")]
    if task == "ground_truth":
        names = sorted(path.stem for path in (CONFIGS / "explainer").glob("*.yaml"))
        defaults: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{task}.yaml"))
        plain = list_explainers(plain, defaults["defaults"], names)
    normal = [f"{text.partition('=')[0]}=[]" if EMPTIED.fullmatch(text.replace(" ", "")) else text for text in plain]
    return [f"++{text}" if text.startswith("model.arguments.") else text for text in normal]


WRAPPERS = ("captum", "noise_tunnel")
"""Explainers that say nothing without the name of another."""


def list_explainers(overrides: Sequence[str], defaults: Sequence[Any], choices: Sequence[str]) -> list[str]:
    """Read `explainer=[a,b]` as what it means where several are judged: those, in the place of the default ones.

    >>> list_explainers(["explainer=[rise]", "seed=1"], [{"explainer@explainers.lrp": "lrp"}], ["lrp", "rise"])
    ['~explainer@explainers.lrp', '+explainer@explainers.rise=rise', 'seed=1']

    Args:
        overrides: As typed.
        defaults: Of the primary config.
        choices: Names of all explainers, which `explainer=all` takes but for those that need a setting of their own.

    Returns:
        The overrides that Hydra takes.
    """
    standing = [str(name) for entry in defaults if isinstance(entry, Mapping) for name in entry]
    standing = [name for name in standing if name.startswith("explainer@")]
    result: list[str] = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key.strip() != "explainer":
            result.append(text)
            continue
        names = [name.strip() for name in value.strip("[] ").split(",") if name.strip()]
        names = [name for name in choices if name not in WRAPPERS] if names == ["all"] else names
        if not names or ("," in value and not value.startswith("[")):
            raise UserError(f"{text}: give a list of explainers, such as 'explainer=[saliency,lrp]', or explainer=all")
        wanted = [f"explainer@explainers.{name}" for name in dict.fromkeys(names)]
        result += [f"~{name}" for name in standing if name not in wanted]
        result += [f"+{name}={name.rpartition('.')[2]}" for name in wanted if name not in standing]
        standing = wanted
    return result


def defer_settings(overrides: Sequence[str]) -> list[str]:
    """Let the jobs of a sweep alone set what belongs to a group that the sweep varies.

    Hydra composes the default choice of that group first, which need not have such a setting.

    >>> defer_settings(["explainer=rise,lime", "explainer.seed=3", "model.size=64"])
    ['explainer=rise,lime', 'explainer.seed=choice(3)', 'model.size=64']

    Args:
        overrides: Those of a sweep.

    Returns:
        The overrides, with a choice of one value in place of such a setting's value.
    """
    parsed = [_parse(text) for text in overrides]
    varied = {each.key_or_group for each in parsed if each is not None and each.is_sweep_override()}
    deferred = []
    for text, override in zip(overrides, parsed, strict=True):
        key, _, value = text.partition("=")
        belongs = override is not None and key.partition(".")[0] in varied and "." in key
        plain = belongs and override is not None and not override.is_sweep_override() and not override.is_delete()
        deferred.append(f"{key}=choice({value})" if plain else text)
    return deferred


def _parse(text: str) -> Override | None:
    """The override; None for a flag, or a typo that Hydra answers."""
    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, RecursionError):
        return None


def check_groups(overrides: Sequence[str]) -> None:
    """Check that each group is given the name of a choice, or a list of names where it takes several.

    Whether there is such a choice is left to Hydra.

    Args:
        overrides: As typed; what is no override is passed over.

    Raises:
        UserError: A group is set to nothing, a number, true, false, a mapping, or a path that leads out of its folder.
    """
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()} - {"hydra"}
    for text in overrides:
        override = _parse(text)
        if override is None:
            continue
        group = override.key_or_group
        if group.partition("/")[0] in groups | {"hydra"} and any(
            ".." in re.split(r"[/\\]", word) for word in _list_words(override)
        ):
            raise UserError(
                f"{text.strip()}: a choice is the name of a yaml in the folder {group.partition('/')[0]}, not a path out of "
                "it; --config-dir names a folder of configs beside ours"
            )
        if override.is_delete() or override.is_sweep_override():
            continue
        value = override.value()
        if value == {} and group not in groups and not override.is_add():
            raise UserError(f"{text.strip()} changes nothing: settings are merged; ~{group} leaves {group} out")
        if group not in groups:
            continue
        if isinstance(value, str | QuotedString) and str(value):
            continue
        if group in SEVERAL and isinstance(value, list) and all(isinstance(each, str | QuotedString) for each in value):
            continue
        several = "a list of its choices" if group in SEVERAL else "one of its choices"
        raise UserError(f"{text.strip()}: {group} must be {several}: {list_choices(group)}")


def _list_words(override: Override) -> list[str]:
    """The group of an override and the texts that it is set to, or varied over."""
    value = override._value
    values = value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]
    members = [each for value in values for each in (value if isinstance(value, list) else [value])]
    texts = [each.text if isinstance(each, QuotedString) else each for each in members]
    return [override.key_or_group, *(each for each in texts if isinstance(each, str))]


def find_config_folder() -> Path:
    """Find the folder of the yaml files.

    Returns:
        The folder that holds the primary configs.

    Raises:
        UserError: The sources lie outside a checkout and were not installed.
    """
    if not (CONFIGS / "explain.yaml").is_file():
        raise UserError(
            f"there are no configs in {CONFIGS}: install seewhy with `pip install <checkout>`, or run it in a checkout "
            "of its repository (`make install`)"
        )
    return CONFIGS


def compose(task: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the config of a command, also inside a Hydra application, which keeps its own state.

    Args:
        task: The name of a primary config, such as `explain`.
        overrides: Those of the command line, such as `["model=cifar_cnn", "data.limit=2"]`.

    Returns:
        The config of `python src/<task>.py <overrides>`, without Hydra's own part.

    Raises:
        UserError: A choice or key does not exist; the message names the nearest.
    """
    folder = find_config_folder()
    register_folders()
    bound_references()
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None
    try:
        with initialize_config_dir(str(folder), job_name=task, version_base="1.3"):
            given = normalise_overrides(overrides, task)
            check_groups(given)
            return compose_config(task, given)
    except HydraException as error:
        raise explain_mistake(error, folder, task) from error
    except OmegaConfBaseException as error:
        raise describe_broken_reference(error) from error
    finally:
        state.hydra = outer


SETTINGS: dict[str, Any] = {
    "task": Text,
    "seed": Seed,
    "target": TargetList,
    "probe_batch_size": ProbeBatchSize,
    "precision": Annotated[str, OneOf(("float32", "bfloat16"))],
    "threads": Threads | None,
    "resume": PathNumber | None,
    "shard": Text | None,
    "page": bool,
    "output": Folder,
    "trust_config": bool,
    "runs": PathNumber | Sequence[PathNumber] | None,
    "faithfulness": Text | None,
    "a": Text | None,
    "b": Text | None,
    "band": Text | None,
    "cast": Annotated[str, OneOf(("float16", "bfloat16"))] | None,
    "fail": bool,
    "networks": CountFrom2,
    "images": Count,
    "proof_images": Annotated[int, Ge(20)],  # with fewer no share is told from chance, and every proof holds
    "passes": Count | None,
    "pictures": Count,
    "certificate": Text | None,
    "audited": Count,
}
"""The keys at the top of the primary configs."""
GROUPS = {
    "explainer": "seewhy.explainers.base.Explainer",
    "metric": "seewhy.metrics.base.ImageMetric",
    "also": "seewhy.explainers.base.Explainer",
    "corruption": "",
    "model": "seewhy.models.classifier.Classifier",
    "data": "lightning.pytorch.LightningDataModule",
    "optimization": "",
    "ground_truth": "seewhy.analyses.ground_truth.base.GroundTruth",
    "audit": "seewhy.analyses.audit.run.Audit",
    "explainers": "seewhy.explainers.base.Explainer",
    "synthesis": "seewhy.analyses.synthesis.base.Synthesis",
    "callbacks": "lightning.pytorch.Callback",
    "logger": "lightning.pytorch.loggers.Logger",
    "trainer": "lightning.pytorch.Trainer",
}
"""The groups and the class of what they describe, in the order in which they are checked: what others refer to first."""
SEVERAL = ("metric", "also", "corruption", "callbacks", "logger", "ground_truth", "explainers")
"""Groups that hold several objects, each under its name."""
SPLITTING = ("label_noise", "validation", "test", "split_seed")
"""Settings of data that decide what the training images are."""
INFLUENCE = ("seewhy.callbacks.influence.Experts", "seewhy.callbacks.influence.Representers")
"""Callbacks that look at the training images; one of the user's own may do so too."""
OURS = ("seewhy", "lightning")
OPTIONAL = ("callbacks", "logger")
"""Groups of which a member may be null: it is left out."""


def check_settings(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Check every setting of a config, its references, and every `_target_`, before anything is built.

    `trust_config=true` counts only on the command line: a file cannot vouch for itself.

    Args:
        cfg: A composed config.
        overrides: Those of the command.

    Raises:
        UserError: A value is not allowed, a setting does not exist, a reference is broken, or a `_target_` is outside what
            a config may call.
    """
    bound_references()  # in the processes of a launcher too
    check_references(OmegaConf.to_container(cfg))
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        _check_groups(_drop_references(OmegaConf.to_container(cfg)))  # what a reference points into may be at fault
        raise describe_broken_reference(error) from error
    plain = {key: plain[key] for key in (*filter(plain.get, GROUPS), *plain)}  # what others refer to is named first
    plain_overrides = [text.lstrip("+").replace(" ", "").lower() for text in overrides]
    trusted = cfg.get("trust_config", False) is True and "trust_config=true" in plain_overrides
    if trusted:
        add_current_folder()  # classes of one's own lie there, or are installed
    check_targets(plain, trusted)
    check_own_code(plain, overrides, trusted)
    for key in SETTINGS.keys() & plain.keys():
        check_value(key, plain[key], SETTINGS[key])
    _check_groups(plain)
    for key, described in list_objects(plain):
        if key.startswith(("callbacks.", "logger.")):
            check_direction(described, key)
        _check_places(described, key, str(plain.get("output")))
    if plain.get("task", "train") != "train":
        _refuse_training_settings(overrides, plain)


def _check_places(member: Mapping[str, Any], key: str, output: str) -> None:
    """Refuse an object that writes outside of the run folder, where files of something else may lie."""
    inside = os.path.abspath(output)
    for setting, below in (("folder", ()), ("dirpath", ("filename",)), ("save_dir", ("name", "version"))):
        settings = [each for each in (setting, *below) if member.get(each) is not None]
        is_folder = setting == "folder"
        if not settings or settings[0] in ("name", "version") or member["_target_"] in ELSEWHERE:
            continue
        if is_folder and not key.startswith("callbacks."):
            continue
        start = output if settings[0] in below else ""  # a folder of its own is not below the run folder
        place = os.path.abspath(os.path.join(start, *(str(member[each]) for each in settings)))
        if (is_folder and place != inside) or os.path.commonpath([place, inside]) != inside:
            where = "the run folder" if is_folder else "inside of the run folder"
            written = write_value(member[settings[0]])
            raise UserError(f"{key}.{settings[0]}={written} must be {where}; output= puts the whole run elsewhere")


def _refuse_training_settings(overrides: Sequence[str], plain: Mapping[str, Any]) -> None:
    """Refuse what only a training reads, or callbacks that look at training images, in a command without either."""
    members = [str((member or {}).get("_target_", "")) for member in (plain.get("callbacks") or {}).values()]
    looks_at_training = any(target in INFLUENCE or target.partition(".")[0] not in OURS for target in members)
    splits = looks_at_training or (plain.get("data") or {}).get("split") is not None
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        group, _, name = key.partition(".")
        if name in TRAINING.get(group, ()) or (group == "data" and name in SPLITTING and not splits):
            also = ", or by callbacks=representers and callbacks=experts" if name in SPLITTING else ""
            raise UserError(f"{key}={value} is read by train{also or ' alone'}, not by {plain['task']}: leave it out")


def _drop_references(config: Any) -> Any:
    """The same containers without what refers to something else."""
    if isinstance(config, Mapping):
        plain = {key: _drop_references(value) for key, value in config.items()}
        return {key: value for key, value in plain.items() if not (isinstance(value, str) and "${" in value)}
    return [_drop_references(each) for each in config] if isinstance(config, list) else config


def _check_groups(plain: Mapping[str, Any]) -> None:
    for group in [group for group in GROUPS if group in plain]:
        _check_group(plain[group], group)
    for group in [group for group in GROUPS if plain.get(group)]:
        kind = get_object(GROUPS[group]) if GROUPS[group] else Any
        members = plain[group].items() if group in SEVERAL else [("", plain[group])]
        for name, member in members:
            if member is not None:
                check_setting(f"{group}.{name}".rstrip("."), member, kind)


def _check_group(value: Any, group: str) -> None:
    """Refuse a group that describes no object, or a member of a group that does not."""
    if group not in SEVERAL:
        if not isinstance(value, Mapping) or "_target_" not in value:
            raise UserError(f"{group}={write_value(value)} must be one of its choices: {list_choices(group)}")
        return
    if value is not None and not isinstance(value, Mapping):
        raise UserError(f"{group}={write_value(value)} must be a list of its choices: {list_choices(group)}")
    for name, member in (value or {}).items():
        if member is None and group in OPTIONAL:
            continue
        if not isinstance(member, Mapping) or "_target_" not in member:
            off = "null" if group in OPTIONAL else f"~{group}.{name}"
            raise UserError(
                f"{group}.{name}={write_value(member)} must be a mapping with its _target_; {off} leaves it out"
            )


def list_choices(group: str) -> str:
    """List the choices of a group, for messages."""
    return ", ".join(sorted(file.stem for file in (CONFIGS / group).glob("*.yaml")))
