"""Run a study of ground truth: train, prove, judge, cell by cell; what is done is not computed again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from seewhy.analyses.ground_truth.base import GroundTruth, Planted
from seewhy.analyses.ground_truth.certificate import SCORES, Cell, build_certificate
from seewhy.analyses.ground_truth.judge import add_controls, judge_maps, name_columns
from seewhy.analyses.ground_truth.networks import (
    Proof,
    describe_shares,
    find_fault,
    prepare_explained,
    prove_use,
    select_explained,
    train_network,
)
from seewhy.analyses.ground_truth.pool import Pool
from seewhy.core.disclosure import print_line
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.files import RunFolder, name_files
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier
from seewhy.models.weights import fit_weights, read_weights, save_weights

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

FOLDER = "cells"
"""Of what is done, below the run folder."""
DEMANDS = ("accuracy", "follow")
"""Parameters of a kind that a network must satisfy; its proof is judged anew by them, it is not trained again."""
LARGEST = 2**24
"""Bytes of the largest file that is read."""


@dataclass(frozen=True)
class Study:
    """What is judged, and how its objects are built.

    Attributes:
        kinds: The kinds of planted data, by name.
        explainers: The methods, by name.
        build_classifier: From a kind and a seed to a classifier with random weights and its optimisation.
        build_trainer: A trainer for one epoch.
        build_pool: Reads the pictures of `data=` for a classifier; called once, and only where a kind needs them.
        seed: Of the run; networks have this seed and those behind it.
        networks: Networks of each kind that must use the feature.
        images: Images that are explained with each.
        proof_images: Test images of each probe of the proof.
        passes: Of one method on one network: what costs more explains fewer images, at least `judge.BATCH`; None: all.
        plan: What decides the networks beside the kind; `explainers` holds the settings of each method. What was done
            under another plan is computed again, and nothing else.
    """

    kinds: Mapping[str, GroundTruth]
    explainers: Mapping[str, Explainer]
    build_classifier: Callable[[GroundTruth, int], Classifier]
    build_trainer: Callable[[], Trainer]
    build_pool: Callable[[Classifier], Pool]
    seed: int = 0
    networks: int = 3
    images: int = 100
    proof_images: int = 200
    passes: int | None = None
    plan: Mapping[str, Any] | None = None

    def open_network(self, kind: GroundTruth, folder: RunFolder, pools: Sequence[Pool]) -> CellStore:
        """Open the files of the networks of a kind.

        Args:
            kind: With its choices.
            folder: The run folder.
            pools: Of the pictures, empty where none were read.

        Returns:
            The store; other methods, images or kinds beside this one leave its networks valid.
        """
        return CellStore(folder, digest_plan(self._plan_network(kind, pools)))

    def open_cell(self, kind: GroundTruth, method: str, folder: RunFolder, pools: Sequence[Pool]) -> CellStore:
        """Open the files of the cells of a kind and a method.

        Args:
            kind: With its choices.
            method: Its name.
            folder: The run folder.
            pools: Of the pictures, empty where none were read.

        Returns:
            The store; other methods beside this one leave its cells valid.
        """
        method_plan = ((self.plan or {}).get("explainers") or {}).get(method)
        cell = {"images": self.images, "passes": self.passes, "explainer": method_plan}
        return CellStore(folder, digest_plan(self._plan_network(kind, pools) | cell))

    def _plan_network(self, kind: GroundTruth, pools: Sequence[Pool]) -> dict[str, Any]:
        rest = {key: value for key, value in (self.plan or {}).items() if key != "explainers"}
        made = {key: value for key, value in kind.parameters.items() if key not in DEMANDS}
        pictures = {"pictures": pools[0].digest} if kind.needs_pictures and pools else {}
        return {**rest, **pictures, "proof_images": self.proof_images, "kind": {"": type(kind).__name__, **made}}


def run_study(study: Study, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train the networks of every kind, prove that they use the feature, and judge all explainers on them.

    Every network and every cell (explainer, network) is a file of its own, whole or absent; one that is there is not
    computed again. Of every kind as many networks are trained as are asked for, and up to as many again in the place of
    those that do not use the feature, unless all of the first do not.

    Args:
        study: What is judged.
        folder: The run folder.

    Returns:
        (the certificate, what the record says: the networks with their proofs, and how much was done before).
    """
    cells: list[Cell] = []
    proofs: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, Any] = {"cells": 0, "cells_done_before": 0, "computing_seconds": 0.0}
    out = RunFolder(folder)
    explainers = add_controls(study.explainers, study.seed)
    pools: list[Pool] = []
    trained: dict[str, str] = {}
    for name, given in study.kinds.items():
        for setting, kind in settle_kind(name, given, study, pools).items():
            twin = trained.setdefault(study.open_network(kind.trained_as, out, pools).plan, setting)
            for seed, classifier, proof in _train_networks(study, setting, kind, pools, out, twin):
                proofs.setdefault(setting, []).append({"seed": seed, **describe_shares(proof)})
                counts["computing_seconds"] += proof.seconds
                _print_proof(setting, seed, proof)
                if not proof.used:
                    cells += [Cell(setting, each, seed, None, proof.reason, "network") for each in explainers]
                    continue
                judged, before, seconds = _judge_network(study, setting, kind, seed, classifier, explainers, pools, out)
                cells += judged
                counts["cells"] += len(judged)
                counts["cells_done_before"] += before
                counts["computing_seconds"] += seconds
    model = study.build_classifier(next(iter(study.kinds.values())), study.seed).name
    return build_certificate(cells, model, study.seed), {"networks": proofs, **counts}


def settle_kind(name: str, kind: GroundTruth, study: Study, pools: list[Pool]) -> dict[str, GroundTruth]:
    """Settle what the pictures decide of a kind of planted data.

    Args:
        name: Of the kind.
        kind: As its config says.
        study: Whose pictures are read where the kind needs some.
        pools: Of the pictures, empty at first; they are read once.

    Returns:
        The kind by setting, such as `tag_50`.
    """
    if not kind.needs_pictures:
        return kind.list_settings(name)
    if not pools:
        pools.append(study.build_pool(study.build_classifier(kind, study.seed)))
    return kind.fit_pool(pools[0]).list_settings(name)


def _train_networks(
    study: Study, setting: str, kind: GroundTruth, pools: list[Pool], out: RunFolder, twin: str
) -> Iterator[tuple[int, Classifier, Proof]]:
    """(seed, network, its proof) until enough use the feature, all of the first do not, or twice as many were tried.

    Networks of the setting `twin`, which are trained alike, are taken from there.
    """
    used, store, alike = 0, study.open_network(kind, out, pools), study.open_network(kind.trained_as, out, pools)
    for number in range(2 * study.networks):
        if used >= study.networks or (number == study.networks and not used):
            return
        seed = study.seed + number
        classifier, pool = study.build_classifier(kind, seed), pools[0] if kind.needs_pictures else None
        name = f"{setting}_{seed}"
        proof = store.read_network(name, classifier)
        if proof is None and twin != setting:
            classifier = study.build_classifier(kind, seed)
            proof = alike.read_network(f"{twin}_{seed}", classifier)
            if proof is not None:
                proof = replace(proof, seconds=0.0)
                store.write_network(name, classifier, proof)
        if proof is not None:
            proof = replace(proof, reason=find_fault(proof.shares, kind, proof.chance, proof.n))
        else:
            started = time.perf_counter()
            fresh = study.build_classifier(kind, seed)  # what was read may have been put in halfway
            classifier = train_network(fresh, study.build_trainer(), kind, seed, pool)
            proof = prove_use(classifier, kind, study.proof_images, pool)
            proof = replace(proof, seconds=round(time.perf_counter() - started, 3))
            store.write_network(name, classifier, proof)
        used += proof.used
        yield seed, classifier, proof


def _judge_network(
    study: Study,
    setting: str,
    kind: GroundTruth,
    seed: int,
    classifier: Classifier,
    explainers: Mapping[str, Explainer],
    pools: list[Pool],
    out: RunFolder,
) -> tuple[list[Cell], int, float]:
    """(the cells of a network, how many of them were done before, the seconds that all of them took)."""
    files = name_files(explainers)
    stores = {name: study.open_cell(kind, name, out, pools) for name in explainers}
    read = {name: stores[name].read_cell(f"{setting}_{seed}_{files[name]}") for name in explainers}
    cells, before = [], sum(values is not None for values in read.values())
    explained: Classifier | None = None
    planted: Planted | None = None
    numbers: list[int] = []
    seconds = 0.0
    for name, explainer in explainers.items():
        done = read[name]
        if done is None:
            if explained is None or planted is None:
                explained = prepare_explained(classifier, kind)
                numbers, planted = select_explained(
                    explained, kind, study.images, pools[0] if kind.needs_pictures else None
                )
            started = time.perf_counter()
            done = _judge(explained, explainer, kind, planted, numbers, study.passes)
            done["seconds"] = round(time.perf_counter() - started, 3)
            stores[name].write(f"{setting}_{seed}_{files[name]}", done)
        reason, seconds = str(done["reason"]), seconds + float(done.get("seconds", 0))
        values = None if reason else pd.DataFrame({key: done[key] for key in ("image", *name_columns())})
        cells.append(Cell(setting, name, seed, values, reason, "explainer"))
    return cells, before, seconds


def _judge(
    classifier: Classifier,
    explainer: Explainer,
    kind: GroundTruth,
    planted: Planted,
    numbers: list[int],
    passes: int | None,
) -> dict[str, Any]:
    """The values of a cell, or the reason why there are none."""
    if not numbers:
        return {"reason": "no test image was given the class of its feature"}
    try:
        values = judge_maps(classifier, explainer, kind, planted, passes)
        return {"reason": "", "image": numbers[: len(values[SCORES[0]])], **values}
    except Incompatible as error:
        return {"reason": f"refused: {error}"}


def _print_proof(setting: str, seed: int, proof: Proof) -> None:
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in proof.shares.items())
    print_line(
        f"{setting}, network {seed}: {'uses the feature' if proof.used else 'no score: ' + proof.reason} ({shares})"
    )


class CellStore:
    """The files of what is done; one that was written under another plan, or cannot be read, does not count.

    Args:
        folder: The run folder.
        plan: Digest of what decides the results.
        inside: Name of the folder below it that holds the files.
    """

    def __init__(self, folder: RunFolder, plan: str, inside: str = FOLDER) -> None:
        self.folder, self.plan, self.inside = folder, plan, inside

    def read(self, name: str) -> dict[str, Any] | None:
        """Read what was written under a name.

        Args:
            name: Of the file, without its ending.

        Returns:
            The content; None where it is to be computed.
        """
        try:
            with self.folder.open(f"{self.inside}/{name}.json") as file:
                content = json.loads(file.read(LARGEST))
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) and content.get("plan") == self.plan else None

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write something under a name.

        Args:
            name: Of the file, without its ending.
            content: What JSON can hold.
        """
        text = json.dumps({"plan": self.plan, **content}, allow_nan=True)
        self.folder.write_bytes(f"{self.inside}/{name}.json", text.encode())

    def read_cell(self, name: str) -> dict[str, Any] | None:
        """Read a cell.

        Args:
            name: Of the cell.

        Returns:
            Its values, or the reason for none; None where it is to be computed.
        """
        content = self.read(name)
        if content is None or not isinstance(content.get("reason"), str):
            return None
        columns = [content.get(column) for column in ("image", *name_columns())]
        sizes = {len(column) for column in columns if isinstance(column, list)}
        whole = all(isinstance(column, list) for column in columns) and len(sizes) == 1
        return content if content["reason"] or whole else None

    def read_network(self, name: str, classifier: Classifier) -> Proof | None:
        """Read the weights of a network into a classifier.

        Args:
            name: Of the network.
            classifier: Of the same architecture; it takes the weights.

        Returns:
            Its proof; None where it is to be trained.
        """
        content = self.read(name)
        path = self.folder.path / self.inside / f"{name}.safetensors"
        digest = self.folder.compute_digest(f"{self.inside}/{name}.safetensors")
        if content is None or not digest or digest != content.get("weights"):
            return None
        with suppress(KeyError, TypeError, UserError):
            proof = Proof(
                content["n"], content["chance"], content["shares"], content["reason"], content.get("seconds", 0.0)
            )
            fit_weights(classifier.network, read_weights(path)[0], str(path))
            classifier.origin = "trained on planted data"
            return proof
        return None

    def write_network(self, name: str, classifier: Classifier, proof: Proof) -> None:
        """Write the weights of a network, and then its proof.

        Args:
            name: Of the network.
            classifier: Trained.
            proof: Of it.
        """
        (self.folder.path / self.inside).mkdir(parents=True, exist_ok=True)
        save_weights(classifier.network, classifier.facts, self.folder.path / self.inside / f"{name}.safetensors")
        digest = self.folder.compute_digest(f"{self.inside}/{name}.safetensors")
        self.write(name, {**describe_shares(proof), "weights": digest})


def digest_plan(plan: Mapping[str, Any]) -> str:
    """Compute the digest that tells what was computed under another plan.

    Args:
        plan: Of a study.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.blake2b(json.dumps(plan, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
