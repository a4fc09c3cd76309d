"""Give every setting of every yaml about a dozen bad values, and every group none, a number and an unknown word.

usage: python scripts/try_settings.py [--sample N] [--seed S] [--most N] [--only WORD] [--accepted]

Each command is composed, checked and built in this process, up to the point where the data would be read. A bad value must
end as one message that names its key and what is allowed; a value that a setting may have is listed in LEGAL, which is read
by people. Counts tracebacks, messages without the key, and values that are accepted without being legal; any of them makes
the exit code 1. `--accepted` prints the legal ones too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import re
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

CONFIGS = ROOT / "configs"
VALUES: dict[str, Any] = {
    "0": 0,
    "-1": -1,
    "0.5": 0.5,
    "huge": 1000000007,
    "nan": float("nan"),
    "inf": float("inf"),
    "word": "word",
    "empty": "",
    "null": None,
    "[]": [],
    "[word]": ["word"],
    "{}": {},
    "{a: 1}": {"a": 1},
    "true": True,
    "false": False,
}
SMALL = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "logger=[]"]
SMALL += ["a=model/cifar_cnn", "cast=float16"]
"""What a command is tried with beside the setting in question."""
SINGLE = ("explainer", "model", "data", "optimization", "trainer", "synthesis", "audit")
TASK_OF = {
    "synthesis": "synthesize",
    "optimization": "train",
    "corruption": "robustness",
    "ground_truth": "ground_truth",
    "audit": "audit",
}
NEEDS = {"transformers": "transformers", "wandb": "wandb", "mlflow": "mlflow"}
"""Choices that need a package which need not be installed."""
OWN_CODE = (
    "model.build=seewhy.models.cifar_networks:CifarCNN",
    "model.classes=10",
    "model.size=32",
    "model.weights=random",
)
TASKS = ("explain", "train", "robustness", "synthesize", "ground_truth", "doctor", "compare", "audit", "report")


class Trial(NamedTuple):
    """One value of one setting."""

    task: str
    overrides: tuple[str, ...]
    key: str
    label: str

    def __str__(self) -> str:
        return " ".join([self.task, *self.overrides, f"{self.key}={self.label}"])


def list_small(task: str) -> list[str]:
    """List what a task is tried with beside the setting in question: what it has."""
    content = read_yaml(CONFIGS / f"{task}.yaml")
    names = {str(next(iter(entry))) for entry in content.pop("defaults") if isinstance(entry, dict)}
    names |= {name for name, value in content.items() if not isinstance(value, dict)}
    return [word for word in SMALL if word.partition("=")[0].partition(".")[0] in names]


def list_keys(config: Any, prefix: str) -> Iterator[str]:
    """List the paths of all settings of plain containers, members of lists left out.

    Args:
        config: A mapping.
        prefix: Its own path.

    Yields:
        The paths.
    """
    for name, value in config.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if name != "defaults":
            yield key
            if isinstance(value, dict):
                yield from list_keys(value, key)


def read_yaml(path: Path) -> Any:
    """Read a yaml file as plain containers, references unresolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path))


def list_trials() -> list[Trial]:
    """List every setting of every yaml with every value."""
    trials: list[Trial] = []
    for task in TASKS:
        for name, value in read_yaml(CONFIGS / f"{task}.yaml").items():
            if name not in ("defaults", "hydra") and not isinstance(value, dict):
                trials += [Trial(task, (), name, label) for label in VALUES]
    for group in (*SINGLE, "metric", "callbacks", "logger", "corruption", "ground_truth"):
        task = TASK_OF.get(group, "explain")
        for path in sorted((CONFIGS / group).glob("*.yaml")):
            choice, content = path.stem, read_yaml(path)
            if choice in NEEDS and find_spec(NEEDS[choice]) is None:
                continue  # every message would be that the package is missing
            content.pop("defaults", None)
            own = (f"{group}={choice}",) if group in SINGLE else (f"{group}=[{choice}]",)
            own += ("explainer=saliency",) if choice in ("linear", "mlp") else ()  # they have no layer with a grid
            own += OWN_CODE if choice == "own" else ()
            if group == "callbacks":
                task = "train" if set(content) & {"checkpoint", "early_stopping", "learning_rate"} else "explain"
                task = "robustness" if choice == "robustness" else task
            prefix = group
            trials += [Trial(task, own, key, label) for key in list_keys(content, prefix) for label in VALUES]
    return trials


def list_group_trials() -> list[Trial]:
    """List each group of each task with what is no choice of it."""
    bad = ("null", "3", "word", "[]", "true", "", "{a: 1}", "[word]")
    trials = []
    for task in TASKS[:4]:
        entries = read_yaml(CONFIGS / f"{task}.yaml")["defaults"]
        groups = [str(next(iter(entry))) for entry in entries if isinstance(entry, dict)]
        trials += [
            Trial(task, (f"{group}={value}",), "", "") for group in groups if "hydra" not in group for value in bad
        ]
    return trials


LEGAL: dict[str, str] = {
    r"(\w+\.)*(split_)?seed=(0|huge)": "any whole number up to 2**32 - 1",
    r"(callbacks|logger)\.\w+=null": "leaves it out",
    r"output=word|data\.(labels|masks)=word": "a path; what it must hold is read later",
    r"data\.root=(word|0|huge|\[word\]|\[\])": "paths; one that is missing is named when the folder is read",
    r"runs=(0|huge|word|\[\]|\[word\])": "folders may be called so; one that is missing is named when it is read",
    r"faithfulness=word": "compared with the metrics of the runs",
    r"target=(0|true)|callbacks\.attribution\.target=(0|true)|explainer\.against=0": "a class index, the policy `true`",
    r"synthesis\.(target|classes)=(0|huge|word|true|\[word\])": "looked up among the classes of the network",
    r"callbacks\.representers\.target=(0|huge|word|true)": "looked up among the classes of the network",
    r"callbacks\.(figures|attribution)\.limit=null|callbacks\.robustness\.metrics=null": "all images; no metric",
    r"corruption\.\w+\.step=null": "chosen from the strength",
    r"callbacks\.experts\.layer=word": "looked up among the layers of the network",
    r"(data|callbacks\.\w+)\.(limit|maximum|rows|images|pictures|explain|sheet_images)=huge": "more than there is: all",
    r"callbacks\.\w+\.(limit|maximum|rows|pictures|explain|sheet_images|workers)=0": "none; no further process",
    r"data\.max_pixels=huge": "a limit that is higher than usual",
    r"data\.shift=0|synthesis\.(l2|jitter|rotation|blur|decay|margin)=0": "none of it",
    r"data\.label_noise=0\.5|data\.scale=0\.5": "a number inside of its range, 0 by default",
    r"explainer\.(noise|alpha|epsilon|gamma|discard_ratio|max_distance|dilation)=0": "the method without it",
    r"explainer\.(sigma|max_sigma)=0\.5|metric\.pointing_game\.tolerance=0\.5": "pixels, which need not be whole",
    r"explainer\.incremental=(true|false)": "auto by default",
    r"explainer\.baseline_files=(word|\[word\])": "a path; what it must hold is read later",
    r"callbacks\.figures\.(outlier_percent|strength)=0": "nothing cut, nothing drawn over the image",
    r"callbacks\.representers\.least_pearson=(0|-1)": "correlations begin at -1",
    r"model\.(cam_layer|influence_layer|threshold|width|size|crop|fit)=null": "chosen from the network or its weights",
    r"model\.architecture\.(package|checkpoint)=null|model\.arguments=null": "none",
    r"model\.architecture\.checkpoint=word": "read where the weights are looked for, not with random ones",
    r"model\.name=word": "what the network is called in tables",
    r"model\.classes=\[word\]": "compared with the outputs of the network",
    r"model\.ema=false": "the raw weights where a file has both",
    r"model\.mean=(0|-1|0\.5)|model\.std=0\.5": "any shift, one for all channels",
    r"model\.(crop|threshold)=0\.5": "a share",
    r"optimization\.schedule=null": "a rate that stays",
    r"optimization\.schedule\.(patience=0|max_lr=0\.5)": "at once; one rate for all parameters",
    r"optimization\.(optimizer\.)?(weight_decay|momentum)=0": "none",
    r"trainer\.(precision|deterministic)=null": "Lightning's default",
    r"synthesis\.(rate|l2|rotation|blur|decay|contrast|saturation)=0\.5": "a number inside of its range, null by default",
    r"corruption\.\w+\.step=0\.5": "a number inside of its range, null by default",
    r"metric\.\w+\.n_layers=null": "all of them",
    r"callbacks\.checkpoint\.(dirpath|filename|monitor|save_last)=null": "Lightning's default, inside of the run folder",
    r"callbacks\.checkpoint\.filename=word": "a name",
    r"callbacks\.learning_rate\.logging_interval=null": "the interval of the schedule",
    r"callbacks\.robustness\.also=null": "no further explainer",
    r"logger\.\w+\.(name=(word|empty|null)|version=(0|huge|word|null))": "folders inside of the run folder",
    r"ground_truth\.\w+\.(accuracy|follow)=0": "nothing is asked of the networks",
    r"ground_truth\.tag\.tagged=word": "looked up among the classes of the data",
    r"audit\.effect=0|audit\.fail_on=0(\.5)?": "any effect that is beyond chance; a number inside of its range",
    r"certificate=word": "a path; a sweep looks for it before anything is computed, a report reads it",
    r"explainer\.options\.(multiply_by_inputs|abs|relu_attributions|attribute_to_layer_input)=(true|false)": "a switch",
    r"explainer\.options\.\w+=null": "Captum's default",
    r"model\.classes=null": "numbered like the outputs of the network",
    r"explainer\.sigma=0": "not blurred",
    r"model\.arguments\.hidden=0": "no hidden layer",
    r"corruption\.\w+\.(small=null|differs=(word|empty))": "the levels of larger pictures; words for the table",
}


def find_reason(trial: Trial, current: Any) -> str | None:
    """Find why a setting may have a value; None where nobody has said so.

    Args:
        trial: The setting and its value.
        current: The value that its yaml gives it.
    """
    value = VALUES.get(trial.label)
    if type(value) is type(current) and value == current:
        return "it is the value of the yaml"
    if isinstance(value, bool) and isinstance(current, bool):
        return "a switch"
    if value == 0.5 and isinstance(current, float):
        return "a number inside of its range"
    written = f"{trial.key}={trial.label}"
    return next((reason for pattern, reason in LEGAL.items() if re.fullmatch(pattern, written)), None)


def attempt(trial: Trial, folder: Path) -> tuple[str | None, Any]:
    """Compose, check and build the command of a trial.

    Args:
        trial: The setting and its value.
        folder: For what is written.

    Returns:
        The message, None where the value was accepted; and the value that the yaml gives the setting.
    """
    from omegaconf import OmegaConf

    from seewhy.cli import config, early_checks, resume, tasks

    current = None
    try:
        typed = {each.partition("=")[0] for each in trial.overrides}
        small = [word for word in list_small(trial.task) if word.partition("=")[0] not in typed]
        small = [word for word in small if not (word == "model.weights=random" and "model" in trial.overrides[:1])]
        given = [*small, *trial.overrides, f"output={folder}"]
        cfg = compose(trial.task, tuple(given))
        OmegaConf.set_struct(cfg, True)
        if trial.key:
            typed = f"{trial.key}={write_label(trial.label)}"
            config.check_groups([typed])
            resume.prepend_earlier_overrides([typed], trial.task)
            current = OmegaConf.to_container(cfg, resolve=False)
            for name in trial.key.split("."):
                current = current[name]
            given.append(typed)
            try:
                OmegaConf.update(cfg, trial.key, VALUES[trial.label], merge=True)
            except Exception:  # Hydra does the same, and turns it into a message
                cfg = config.compose(trial.task, given)
        OmegaConf.set_struct(cfg, False)
        early_checks.check_task(cfg, trial.task)
        config.check_settings(cfg, given)
        build(trial.task, cfg)
    except Exception as error:
        mistake = tasks.find_user_error(error)
        if mistake is None:
            raise
        return str(mistake), current
    return None, current


def write_label(label: str) -> str:
    """Write a value of VALUES as it is typed."""
    return {"huge": "1000000007", "empty": "''"}.get(label, label)


COMPOSED: dict[tuple[str, tuple[str, ...]], Any] = {}


def compose(task: str, overrides: tuple[str, ...]) -> Any:
    """Compose a config once for all values of its settings."""
    import copy

    from seewhy.cli import config

    if (task, overrides) not in COMPOSED:
        COMPOSED.clear()
        COMPOSED[task, overrides] = config.compose(task, list(overrides))
    return copy.deepcopy(COMPOSED[task, overrides])


def build(task: str, cfg: Any) -> None:
    """Build what a task builds before it reads the data."""
    if task == "report":
        return
    from seewhy.cli import tasks
    from seewhy.runs.record import RunRecord

    record = mock.create_autospec(RunRecord, instance=True)
    record.content, record.before = {"command": [], "overrides": []}, {}
    with (
        mock.patch("lightning.pytorch.Trainer.test", autospec=True, side_effect=start_loop),
        mock.patch("lightning.pytorch.Trainer.fit", autospec=True, side_effect=start_loop),
        mock.patch("seewhy.analyses.synthesis.run.run_synthesis", side_effect=Reached),
        mock.patch("seewhy.analyses.ground_truth.run.run_study", side_effect=Reached),
        mock.patch("seewhy.cli.doctor.read_test_images", side_effect=Reached),
        mock.patch("seewhy.cli.compare.read_test_images", side_effect=Reached),
        mock.patch("seewhy.cli.audit.read_test_images", side_effect=Reached),
        contextlib.suppress(Reached),
    ):
        tasks.TASKS[task](cfg, record)


def start_loop(trainer: Any, model: Any, *rest: Any, **options: Any) -> None:
    """Do what the loop does before the first image is read: names of classes and layers are looked up."""
    from seewhy.callbacks.attribution import Attribution

    for callback in trainer.callbacks:
        if isinstance(callback, Attribution):
            callback.on_test_start(trainer, model)
    raise Reached


class Reached(Exception):
    """The data would be read now."""


def draw_trials(trials: Sequence[Trial], count: int, seed: int) -> list[Trial]:
    """Draw trials at random, six of each config that is drawn: composing takes longest.

    Args:
        trials: All of them.
        count: How many to draw.
        seed: Of the drawing.
    """
    generator = random.Random(seed)
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.task, trial.overrides), []).append(trial)
    chosen = generator.sample(sorted(groups), min(len(groups), -(-count // 6)))
    drawn = [trial for key in chosen for trial in generator.sample(groups[key], min(6, len(groups[key])))]
    return drawn[:count]


def thin_trials(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Leave each setting of a group with each value in that many of the group's choices."""
    counts: Counter[Any] = Counter()
    left = []
    for trial in trials:
        kind = (trial.key.partition(".")[0], trial.key.rpartition(".")[2], trial.label, trial.key.count("."))
        counts[kind] += 1
        if counts[kind] <= most or not trial.key:
            left.append(trial)
    return left


def main(words: list[str]) -> int:
    """Run the trials and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="as many trials, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="trials whose words hold this")
    parser.add_argument("--most", type=int, help="each setting of a group in as many of its choices")
    parser.add_argument("--accepted", action="store_true")
    given = parser.parse_args(words)
    trials = [trial for trial in [*list_group_trials(), *list_trials()] if given.only in str(trial)]
    if given.most:
        trials = thin_trials(trials, given.most)
    if given.sample:
        trials = draw_trials(trials, given.sample, given.seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trial in trials:
            outcome, message = judge(trial, Path(folder))
            counts[outcome] += 1
            if outcome not in ("refused", "legal") or (given.accepted and outcome == "legal"):
                print(f"{outcome}: {trial}\n    {message}", flush=True)
    print(f"{len(trials)} trials: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    return int(bool(counts.keys() - {"refused", "legal"}))


def judge(trial: Trial, folder: Path) -> tuple[str, str]:
    """Judge what becomes of a trial.

    Returns:
        `refused`, `legal`, `accepted`, `unnamed` or `traceback`, and the message or why it is right.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            message, current = attempt(trial, folder)
    except Exception:
        return "traceback", traceback.format_exc().strip().splitlines()[-1]
    if message is None:
        reason = find_reason(trial, current)
        return ("accepted" if reason is None else "legal"), reason or ""
    name = trial.key or trial.overrides[0].split("=")[0]
    written = f"={write_label(trial.label)}"
    named = name in message or f"{name.rpartition('.')[2]}=" in message or (trial.key and written in message)
    if isinstance(current, str) and current.startswith("${"):  # the message may name what the setting refers to
        named = named or any(f"{word}=" in message for word in re.findall(r"[\w.]+", current))
    return ("refused" if named and len(message) < 3000 else "unnamed"), message.split("\n")[0]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
