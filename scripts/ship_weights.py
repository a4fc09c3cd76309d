"""From the run folder of a training to weights that the project ships, with their model card.

usage: python scripts/ship_weights.py RUN_FOLDER [--half] [--note TEXT]

Reads weights.safetensors and run.json of the run folder, writes src/seewhy/weights/<model>.safetensors and <model>.md.
`--half` stores float16; the accuracy in the card is then that of the training run's float32 weights: measure again with
`python src/explain.py model=<model> model.weights=shipped data=cifar10 callbacks=[]`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

LOCAL = ("data.root=", "hydra.", "output=", "callbacks.", "probe_batch_size=", "threads=")
"""Overrides that say where something lies on one machine or what happens after the training."""


def _portable(override: str) -> str:
    """The override with a path of this machine replaced by FILE."""
    key, _, value = override.partition("=")
    return f"{key}=FILE" if key == "model.weights" and Path(value).is_file() else override


def card(name: str, record: dict[str, Any], size: int, half: bool, note: str) -> str:
    """The model card as Markdown."""
    overrides = [_portable(one) for one in record["overrides"] if not one.startswith(LOCAL)]
    facts, minutes = record["model"], record["training_seconds"] / 60
    lines = [
        f"# {name}",
        "",
        f"- Data: CIFAR-10 (Krizhevsky, 2009); 45,000 training and 5,000 validation images of the official training "
        f"part, accuracy on the 10,000 official test images; {facts['size']} x {facts['size']} pixels",
        f"- Command: `python src/train.py {' '.join(overrides)} data.root=FOLDER`",
        f"- Seed: {record['seed']}; commit: {record['git_commit']}",
        f"- Test accuracy: {record['logged']['test/accuracy']:.4f} (the checkpoint with the best validation accuracy)",
        f"- Training: {minutes:.0f} minutes on {record['device']} with {record['threads']} thread(s), "
        f"torch {record['versions']['torch']}",
        f"- Stored as {'float16' if half else 'float32'} safetensors, {size / 1e6:.2f} MB; mean, standard deviation, "
        "size and class names are in the file's header",
        "- Licence: Apache 2.0, as the project",
        "- Use: examples, tests and comparisons of explanations; not for decisions about anything real",
    ]
    return "\n".join([*lines, *([f"- Note: {note}"] if note else []), ""])


def main() -> None:
    """Read the arguments, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--half", action="store_true", help="store float16")
    parser.add_argument("--note", default="", help="a sentence for the card")
    arguments = parser.parse_args()
    from safetensors.torch import save_file

    from seewhy.models.build import SHIPPED
    from seewhy.models.weights import read_weights

    record = json.loads((arguments.run_folder / "run.json").read_text())
    if record["status"] != "completed":
        sys.exit(f"the run in {arguments.run_folder} is {record['status']}: only completed trainings are shipped")
    state, facts = read_weights(arguments.run_folder / "weights.safetensors")
    assert facts is not None
    if arguments.half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    name = record["model"]["name"]
    target = SHIPPED / f"{name}.safetensors"
    save_file(state, target, metadata=facts.to_metadata())
    target.chmod(0o644)
    text = card(name, record, target.stat().st_size, arguments.half, arguments.note)
    target.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
