"""The task `compare`: the two networks, which are named by one word each, and what is done with them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seewhy.cli.build import build_trainer, read_test_images
from seewhy.cli.instantiate import build_object
from seewhy.cli.load import load_classifier
from seewhy.core.errors import UserError, name_key
from seewhy.runs.stored_json import read_form

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier
    from seewhy.runs.record import RunRecord

FAILED = 3
"""Exit code where the reasons are not the same."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")


def compare(cfg: DictConfig, record: RunRecord) -> None:
    """Explain the same images with two classifiers, and hold the agreement of their maps against a noise band.

    Args:
        cfg: The composed config of `compare`.
        record: The record of the run, which is updated.

    Raises:
        UserError: A network cannot be found, or the two cannot be compared.
        SystemExit: 3 where the reasons are not the same, unless `fail` is false.
    """
    import torch
    from lightning.pytorch import seed_everything

    from seewhy.analyses.compare.measure import COPIES, NOISE, compare_networks
    from seewhy.analyses.compare.report import Comparison

    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.a is None or (cfg.b is None and cfg.cast is None):
        raise UserError("compare needs two networks: a=model/cifar_cnn b=<run folder or file>, or a= and cast=float16")
    device = build_trainer(cfg, logger=False).strategy.root_device
    first = _load(cfg.a, "a", None).to(device)
    second = (copy.deepcopy(first) if cfg.b is None else _load(cfg.b, "b", cfg.a)).to(device)
    band = None if cfg.band is None else _load(cfg.band, "band", cfg.a).to(device)
    if cfg.cast is not None:
        round_weights(second, getattr(torch, cfg.cast), cfg.cast)
    explainer = build_object(cfg.explainer, "explainer", "object")
    words = f"{band.name} ({band.origin})" if band else f"a itself under noise of {NOISE} ({COPIES} copies an image)"
    record.update(a=_describe(first), b=_describe(second), band=words, device=str(device))

    read = read_test_images(cfg, device)
    comparison = Comparison(first, second, explainer, words, cfg.seed, own_noise=band is None and cfg.b is not None)
    for pairs in compare_networks(first, second, explainer, read, band, cfg.seed):
        comparison.add(pairs)
    verdict, results = comparison.write(Path(cfg.output))
    record.update(**results)
    if verdict.passed is False and cfg.fail:
        record.update(status="completed")
        raise SystemExit(FAILED)


def _load(word: str, key: str, first: str | None) -> Classifier:
    """The classifier that a word names: of a yaml or of timm, the run folder of a training, or weights for that of `a`."""
    path = Path(word).expanduser()
    with name_key(f"{key}={word}"):
        if path.is_dir():
            name, weights = _read_run(path)
            return load_classifier(name, weights=weights)
        if path.suffix in SUFFIXES:
            if first is None:
                raise UserError("a file of weights needs a network: give a=model/<name>, and the file as b")
            name = _read_run(Path(first))[0] if Path(first).is_dir() else first.removeprefix("model/")
            return load_classifier(name, weights=path)
        return load_classifier(word.removeprefix("model/"))


def _read_run(folder: Path) -> tuple[str, Path]:
    """(name of the network, its weights) of the run folder of a training, which may come from somebody else."""
    weights = folder / "weights.safetensors"
    try:
        name = read_form(folder / "run.json", "record").get("model", {}).get("name")
    except FileNotFoundError:
        name = None
    if not isinstance(name, str):
        raise UserError(f"{folder} is not the run folder of a training: run.json of one names its network")
    if not weights.is_file():
        raise UserError(f"{folder} holds no weights.safetensors: give the run folder of a training that ended")
    if ":" in name:
        raise UserError(
            f"{folder}: {name[:80]!a} builds its network, and that code would run: if you know and trust it, give it as a, "
            f"and {weights} as b"
        )
    return name, weights


def round_weights(classifier: Classifier, kind: Any, word: str) -> None:
    """Round every weight to a narrower type; it is computed with as before.

    Args:
        classifier: Whose weights are rounded in place.
        kind: A floating-point type of torch.
        word: Its name.
    """
    import torch

    from seewhy.models.weights import hash_weights

    with torch.no_grad():
        for value in classifier.network.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.to(kind))
    classifier.origin += f", rounded to {word}"
    classifier.weights_sha256 = hash_weights(classifier.network)


def _describe(classifier: Classifier) -> dict[str, str]:
    return {"name": classifier.name, "weights": classifier.origin, "weights_sha256": classifier.weights_sha256}
