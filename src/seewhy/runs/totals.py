"""Counts and sums over all finished batches of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from seewhy.models.classifier import Passes
from seewhy.runs.journal import Journal


@dataclass
class Totals:
    """Counts and sums over the journal."""

    images: int = 0
    explained: int = 0
    skipped: int = 0
    warned: int = 0
    known: int = 0
    """Images whose true class the classifier knows."""
    correct: int = 0
    losses: list[float] = field(default_factory=list)
    passes: dict[str, Passes] = field(default_factory=dict)
    """By part of the work: attribution, metrics."""
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Metrics that could not be taken."""

    @classmethod
    def of(cls, journal: Journal) -> Totals:
        """One pass over the journal."""
        found = cls()
        for entry in journal.entries():
            found.images += len(entry.images)
            found.skipped += len(entry.skipped)
            made = entry.explanations()
            found.explained += len(made)
            found.warned += sum(bool(one.warnings) for one in made)
            said = [seen.prediction.correct for seen in entry.images if seen.prediction.correct is not None]
            found.known, found.correct = found.known + len(said), found.correct + sum(said)
            found.losses += [seen.loss for seen in entry.images if seen.loss is not None]
            for part, cost in entry.costs.items():
                passes = found.passes.setdefault(part, Passes())
                passes.forward, passes.backward = passes.forward + cost.forward, passes.backward + cost.backward
                found.seconds[part] = found.seconds.get(part, 0.0) + cost.seconds
            found.left_out += [name for name in entry.left_out if name not in found.left_out]
        return found

    def logged(self) -> dict[str, float]:
        """test/loss and test/accuracy over the images whose class is known; empty without any."""
        if not self.losses:
            return {}
        return {"test/loss": math.fsum(self.losses) / len(self.losses), "test/accuracy": self.correct / self.known}

    def image_record(self) -> dict[str, Any]:
        """What a run's record says of the images."""
        return {"images": self.images, "images_skipped": self.skipped}

    def attribution_record(self) -> dict[str, Any]:
        """What a run's record says of the work on the maps."""
        images = max(self.explained, 1)
        return {
            "images_explained": self.explained,
            "passes_per_image": {part: passes / images for part, passes in self._cost("attribution").items()},
            "attribution_seconds": round(self.seconds.get("attribution", 0.0), 3),
        }

    def metric_record(self) -> dict[str, Any]:
        """What a run's record says of the work on the metrics."""
        return {
            "metrics_left_out": self.left_out,
            "metric_passes": self._cost("metrics"),
            "metric_seconds": round(self.seconds.get("metrics", 0.0), 3),
        }

    def _cost(self, part: str) -> dict[str, int]:
        passes = self.passes.get(part, Passes())
        return {"forward": passes.forward, "backward": passes.backward}
