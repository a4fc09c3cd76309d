"""What an epoch of src/train.py costs beside a bare PyTorch loop over the same tensors.

usage: python scripts/benchmark_training.py --root FOLDER [--epochs 3] [--augment]

Both train the tutorial network on 45,000 images at batch 64 with the same optimiser, in turn (A B A B). The bare
loop gathers a batch, scales it, normalises it and steps; it neither augments, logs, validates nor draws a progress bar.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))


def bare_epoch(classifier: Any, part: Any) -> float:
    """Seconds of one epoch of the plain loop."""
    import torch
    from torch.nn import functional

    optimizer = torch.optim.SGD(classifier.parameters(), 0.03, momentum=0.9, nesterov=True, weight_decay=5e-4)
    classifier.train()
    order = torch.randperm(len(part))
    start = time.perf_counter()
    for batch in order[: len(order) // 64 * 64].split(64):
        logits = classifier(part.pictures[batch].float().div_(255))
        loss = functional.cross_entropy(logits, part.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def our_epoch(classifier: Any, data: Any, augment: bool) -> float:
    """Seconds of one epoch of Lightning's loop with everything that src/train.py does in it, validation left out."""
    import tempfile
    from functools import partial

    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar, Timer
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    from seewhy.models.classifier import Optimization

    data.augmentation = augment
    optimizer = partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4)
    classifier.optimization = Optimization(optimizer, partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.03))
    classifier.train()
    timer = Timer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            logger=[TensorBoardLogger(folder), CSVLogger(folder)],
            callbacks=[timer, RichProgressBar(), LearningRateMonitor("step")],
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, data)
    return timer.time_elapsed("train")


def main() -> None:
    """Measure in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with CIFAR-10")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--augment", action="store_true", help="flip and shift in our loop")
    arguments = parser.parse_args()
    from seewhy.cli.program import quieten

    quieten()
    from seewhy.data.cifar10 import CIFAR10
    from seewhy.models.architectures import Own
    from seewhy.models.build import build_classifier
    from seewhy.models.cifar_networks import CifarCNN

    data = CIFAR10(arguments.root, shift=2)
    data.setup("fit")
    built = build_classifier("cifar_cnn", Own(CifarCNN), "random")
    bare, ours = [], []
    for _ in range(arguments.epochs):
        bare.append(bare_epoch(built, data.training_part))
        ours.append(our_epoch(built, data, arguments.augment))
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"bare loop {statistics.median(bare):.2f} s, src/train.py {statistics.median(ours):.2f} s, ratio {ratio:.2f}")
    print(f"all: bare {[round(one, 2) for one in bare]}, ours {[round(one, 2) for one in ours]}")


if __name__ == "__main__":
    main()
