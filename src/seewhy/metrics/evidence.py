"""What the metrics of one batch share: the images with their maps, the explainer, and what was measured already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from seewhy.classifier import Classifier
from seewhy.errors import UserError
from seewhy.explainers.base import Explainer
from seewhy.explainers.baselines import baseline_images
from seewhy.finite import finite_rows
from seewhy.probe import Probe
from seewhy.types import Attributions, Images, Targets

Result = TypeVar("Result")


class Evidence:
    """One batch under measurement; `once` keeps results, so that no metric pays for the passes of another.

    `masks` is bool [batch, height, width], true on the object, where that is known. `explainer` made the maps and is
    needed by the metrics that explain again. `seed` together with an image decides every random number.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Images,
        targets: Targets,
        attributions: Attributions,
        *,
        explainer: Explainer | None = None,
        masks: Tensor | None = None,
        seed: int = 0,
        probe_batch_size: int | str = "auto",
    ) -> None:
        if attributions.shape != (len(images), *images.shape[2:]):
            expected = [len(images), *images.shape[2:]]
            raise UserError(f"attributions must be {expected} like the images, not {list(attributions.shape)}")
        if masks is not None and masks.shape != attributions.shape:
            raise UserError(f"masks must be {list(attributions.shape)} like the maps, not {list(masks.shape)}")
        self.classifier = classifier
        self.images = images.detach().clone()
        self.targets = targets.detach().clone()
        self.attributions = attributions.detach().clone().to(images.device, torch.float32)
        self.explainer = explainer
        self.masks = masks
        self.seed = seed
        self.probe = Probe(classifier, self.images[0], probe_batch_size)
        self._known: dict[Any, Any] = {}

    def once(self, key: Any, measure: Callable[[], Result]) -> Result:
        """The result of `measure`, which is called only the first time that anyone asks for `key`."""
        if key not in self._known:
            self._known[key] = measure()
        result: Result = self._known[key]
        return result

    def logits(self) -> Tensor:
        """The classifier's logits [batch, classes] of the images themselves."""
        return self.once("logits", lambda: self.probe.logits(self.images))

    def scores(self, space: str = "logit") -> Tensor:
        """The target's logit or softmax probability [batch] of the images themselves."""
        return target_scores(self.logits(), self.targets, space)

    def baseline(self, name: str) -> Images:
        """The baseline of that name [batch, 3, height, width] beside each image."""
        return self.once(("baseline", name), lambda: baseline_images(name, self.images, self.seed))

    def baseline_logits(self, name: str) -> Tensor:
        """The classifier's logits [batch, classes] of the baseline of that name."""
        return self.once(("baseline logits", name), lambda: self.probe.logits(self.baseline(name)))

    def need_explainer(self, metric: str) -> Explainer:
        """The explainer; UserError where the maps came without one."""
        if self.explainer is None:
            raise UserError(f"{metric} explains again and needs the explainer that made the maps: pass explainer=")
        return self.explainer

    def need_masks(self, metric: str) -> Tensor:
        """The masks bool [batch, height, width], beside the maps; UserError where the images came without any."""
        if self.masks is None:
            raise UserError(f"{metric} compares the map with where the object is: set data.masks to a folder of masks")
        return self.masks.to(self.attributions.device, torch.bool)

    def finite_maps(self) -> tuple[Attributions, Tensor]:
        """(the maps, zero where one holds a value that is not finite; whether each map is finite, bool [batch])."""
        finite = self.once("finite maps", lambda: finite_rows(self.attributions))
        return self.attributions.masked_fill(~finite[:, None, None], 0), finite


SPACES = ("logit", "probability")


def target_scores(logits: Tensor, targets: Targets, space: str) -> Tensor:
    """The target's logit or softmax probability [...] out of logits [..., classes]; targets have the leading shape."""
    values = logits.softmax(-1) if space == "probability" else logits
    return values.gather(-1, targets[..., None])[..., 0]
