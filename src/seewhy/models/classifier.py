"""The classifier: a network with its own normalisation, what its outputs mean, and its training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from seewhy.core.errors import Incompatible, name_images
from seewhy.core.facts import Facts
from seewhy.core.outputs import expand_binary
from seewhy.core.precision import choose_attention, compute_in_full, find_narrow_type
from seewhy.core.settings import LearningRate, OneOf, Penalty, check_fields
from seewhy.core.tensors import widen
from seewhy.core.types import Batch, Images
from seewhy.models.fusion.folding import Folding
from seewhy.models.fusion.internals import list_parameters
from seewhy.models.read_outputs import read_outputs
from seewhy.models.unwrapping import (
    INSTEAD,
    describe_hidden,
    find_hidden_names,
    find_layer,
    has_visible_layers,
    interpret,
    name_own_network,
    set_mode,
    unwrap_network,
)


@dataclass
class Passes:
    """How many images went through the network.

    Args:
        forward: Images that passed forwards.
        backward: Images whose gradient was taken.
    """

    forward: int = 0
    backward: int = 0

    def since(self, earlier: Passes) -> Passes:
        """Count the passes since an earlier moment.

        Args:
            earlier: A copy of these counts, taken then.

        Returns:
            The passes made after it.
        """
        return Passes(self.forward - earlier.forward, self.backward - earlier.backward)


class Classifier(LightningModule):
    """A network that takes images [batch, channels, height, width] in [0, 1] and scores their classes [batch, classes].

    The scores are its outputs; of a binary network with one logit z they are -z and z.

    The network's own mean and standard deviation are buffers: black is 0 and white is 1 for everything outside. Those of a
    network in double precision are float64: the classifier takes float32 and float64 images and computes with float64.

    Attributes:
        passes: How many images went through the network so far.
        code_sha256: Hash of the user's own code that built the network; empty where none did.
        doubts: Settings that may be wrong if it answers like chance; none where its weights brought them all.
        folding: Its convolutions with what follows them.
        batch_sizes: Most images in one pass where `auto` chose it, by the kind of pass and the size of the images.
        narrow: The type of autocast in which the network computes while it is frozen; None: that of its weights.

    Args:
        network: Takes normalised images. Of a wrapper or a compiled module the module inside is taken, see
            `seewhy.models.unwrapping`.
        facts: Class names, preprocessing and what the outputs mean.
        name: The name of the network.
        origin: Where its weights come from, in words.
        weights_sha256: Hash of its weights; empty where they have none.
        cam_layer: The layer that class activation maps are drawn from; None for the last one with a
            grid that every path from the image crosses.
        influence_layer: The layer whose units influence-directed explanations look at; None where none was chosen.
        channels_last: Whether the network runs in that order of memory.
        fold: Whether convolutions compute the normalisations and activations behind them while the classifier is
            frozen.
        compiled: Whether torch.compile computes passes in which nobody looks at a layer while the classifier is frozen.
        optimization: Optimiser and schedule; None for a classifier that is not trained.
        renewed: Names of the tensors of its head, where that begins at random beside trained weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        facts: Facts,
        *,
        name: str,
        origin: str = "random",
        weights_sha256: str = "",
        cam_layer: str | None = None,
        influence_layer: str | None = None,
        channels_last: bool = False,
        fold: bool = True,
        compiled: bool = False,
        optimization: Optimization | AutoOptimization | None = None,
        renewed: Collection[str] = (),
    ) -> None:
        super().__init__()
        network = unwrap_network(network)
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.facts = facts
        self.name = name
        self.origin = origin
        self.weights_sha256 = weights_sha256
        self.code_sha256 = ""
        self.doubts: tuple[str, ...] = ()
        self.cam_layer = cam_layer
        self.influence_layer = influence_layer
        self.optimization = optimization
        self.renewed = frozenset(renewed)
        self.channels_last = channels_last
        self.passes = Passes()
        self.batch_sizes: dict[str, int] = {}
        # no method: copies of the folding would keep this classifier alive
        self._read = functools.partial(read_outputs, outputs=facts.output_count, key=facts.output)
        self.folding = Folding(self.network, fold, self._read, compiled)
        self._depth = 0
        self.narrow: torch.dtype | None = None
        is_double = any(parameter.dtype == torch.float64 for parameter in network.parameters())
        for buffer, values in (("mean", facts.mean), ("std", facts.std)):
            value = torch.tensor(values, dtype=torch.float64 if is_double else torch.float32).view(1, -1, 1, 1)
            self.register_buffer(buffer, value, persistent=False)

    def forward(self, images: Images) -> Tensor:
        """Compute the score of each class [batch, classes]; count the images that pass forwards and, with a gradient, back.

        Raises:
            UserError: The network returns something else.
            Incompatible: A gradient is asked for and there is none.
        """
        with self._computing(images):
            outputs = self._compute(images, len(images))
        self.passes.forward += len(images)
        if outputs.requires_grad and not self.training:
            outputs.register_hook(self._count_backward)
        elif images.requires_grad and torch.is_grad_enabled() and not self.training:
            raise Incompatible(
                f"{self.name} gives no gradient of its outputs by the image (its forward runs under no_grad, detaches or "
                "rounds); take an explainer that changes pixels, such as occlusion, rise, lime or kernel_shap"
            )
        return self._score_classes(outputs)

    def run_upper(self, image: Images, rows: int) -> Tensor:
        """Compute scores while a hook replaces the output of a layer of one image by that of many.

        Args:
            image: [1, channels, height, width].
            rows: Number of images whose output the hook puts in.

        Returns:
            The score of each class [rows, classes].

        Raises:
            UserError: The network returns something else.
        """
        with self._computing(image):
            outputs = self._compute(image, rows)
        self.passes.forward += len(image)
        return self._score_classes(outputs)

    def _normalise(self, images: Images) -> Images:
        normalised = (images - self.mean) / self.std
        return normalised.contiguous(memory_format=torch.channels_last) if self.channels_last else normalised

    def _compute(self, images: Images, rows: int) -> Tensor:
        normalised = self._normalise(images)
        return widen(self.folding.run(normalised, rows) if self._depth else self._read(self.network(normalised), rows))

    def _score_classes(self, outputs: Tensor) -> Tensor:
        return expand_binary(outputs, self.facts.gives_probabilities) if self.facts.score == "binary" else outputs

    def train(self, mode: bool = True) -> Classifier:
        """Set training mode, or evaluation mode; an exported program inside stays in the mode of its export.

        Args:
            mode: Whether to train.

        Returns:
            The classifier.
        """
        self.training = mode
        for child in self.children():
            set_mode(child, mode)
        return self

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient)

    def find_layer(self, name: str) -> nn.Module:
        """Find a module of the network by its name.

        Args:
            name: As in `named_modules`, such as `features.12`.

        Returns:
            The module.

        Raises:
            UserError: There is none; the message names those that are near.
            Incompatible: It lies inside of TorchScript or an exported program, where nobody can look.
        """
        if not has_visible_layers(self.network) or name in find_hidden_names(self.network):
            raise Incompatible(
                f"layer {name!r} cannot be looked into: the network hides it ({describe_hidden(self.network)}); {INSTEAD}"
            )
        return find_layer(self.network, name)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold evaluation mode and parameters without gradients inside the block; everything is as it was after it.

        Inside, convolutions compute the normalisations and activations behind them, with the weights at its beginning.
        Autocast that is on around the outermost block is on inside of the network alone: what methods and metrics make of
        its outputs and gradients is not rounded.

        Yields:
            Nothing.
        """
        device, narrow = self.mean.device.type, self.narrow
        if not self._depth:
            self.narrow = find_narrow_type(device)
        with compute_in_full(device), self.evaluating():
            self._depth += 1
            try:
                self.folding.refresh(self._example)
                yield
            finally:
                self._depth -= 1
                self.narrow = narrow

    @contextmanager
    def computing_in_full(self) -> Iterator[None]:
        """Compute in the type of the weights inside the block, whatever is on around it.

        Yields:
            Nothing.
        """
        narrow, self.narrow = self.narrow, None
        try:
            with compute_in_full(self.mean.device.type):
                yield
        finally:
            self.narrow = narrow

    def sharing_precision(self) -> AbstractContextManager[object]:
        """Let another classifier that is frozen inside the block compute in the type in which this one does.

        Returns:
            Autocast, which is off inside of a frozen classifier; nothing where passes have the type of the weights.
        """
        return nullcontext() if self.narrow is None else torch.autocast(self.mean.device.type, self.narrow)

    @contextmanager
    def _computing(self, images: Images) -> Iterator[None]:
        """Switch autocast on for a pass, where the frozen classifier has a type for it."""
        with self.sharing_precision(), choose_attention(images):
            yield

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Hold evaluation mode and parameters without gradients inside the block, and compute layer by layer.

        Yields:
            Nothing.
        """
        modes = {module: module.training for module in self.modules()}
        trainable = [parameter for parameter in list_parameters(modes) if parameter.requires_grad]
        if any(modes.values()):
            self.eval()
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            with interpret(), name_own_network(self.name, self.network):
                yield
        finally:
            for module, mode in modes.items():
                if module.training != mode:
                    module.training = mode
            for parameter in trainable:
                parameter.requires_grad_(True)

    def _example(self) -> Tensor:
        """Draw a normalised image of noise [1, channels, height, width]."""
        shape = 1, self.facts.channels, *self.facts.shape
        return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(self.mean)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Compute the loss of a batch and log it with its accuracy as train/loss and train/accuracy.

        A batch of which no image could be read, or a single one (batch normalisation needs two), is left out.
        """
        return self._loss(batch, "train") if len(batch.images) > 1 else None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log val/loss and val/accuracy."""
        if len(batch.images):
            self._loss(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Compute the logits of a batch for the callbacks, which log test/loss and test/accuracy.

        Predictions, and hence targets, are those of float32 whatever the precision of the passes that explain them.
        """
        if not len(batch.images):
            return {"logits": batch.images.new_zeros(0, len(self.facts.classes))}
        with compute_in_full(batch.images.device.type), name_images(batch.names), self.frozen():
            return {"logits": self(batch.images)}

    def _loss(self, batch: Batch, stage: str) -> Tensor:
        return self._log(stage, self(batch.images), batch.labels)

    def _log(self, stage: str, logits: Tensor, labels: Tensor) -> Tensor:
        labels = self.facts.mark_labels(labels)
        loss = self.facts.compute_losses(logits, labels).mean()
        accuracy = self.facts.are_correct(logits.detach(), labels).float().mean()
        if stage != "train" or self.global_step % 10 == 0:
            options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(labels)}
            options["sync_dist"] = stage != "train"
            self.log(f"{stage}/loss", loss.detach(), **options)
            self.log(f"{stage}/accuracy", accuracy, prog_bar=stage == "val", **options)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the facts into a checkpoint, as they travel with safetensors."""
        checkpoint["seewhy"] = self.facts.to_metadata()

    def configure_optimizers(self) -> Any:
        """Build the optimiser and learning-rate schedule of the config group `optimization`."""
        assert self.optimization is not None, "this classifier was loaded to be explained, not to be trained"
        named = list(self.network.named_parameters())
        at_random = self.origin.startswith("random")
        fresh = [parameter for name, parameter in named if at_random or name in self.renewed]
        steps = int(self.trainer.estimated_stepping_batches)
        return self.optimization.configure([parameter for _, parameter in named], steps, fresh)


@dataclass(frozen=True)
class Optimization:
    """An optimiser and a learning-rate schedule, as a config describes them.

    Args:
        optimizer: Builds the optimiser from the parameters: a class of torch with every other argument.
        schedule: Builds the schedule from the optimiser (and `total_steps` where it is OneCycleLR); None for a
            constant rate.
        monitor: The logged value that a ReduceLROnPlateau schedule watches.
    """

    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    schedule: Callable[..., Any] | None = None
    monitor: Annotated[str, OneOf(("val/accuracy", "val/loss"))] = "val/loss"

    def configure(
        self, parameters: Iterable[nn.Parameter], total_steps: int, fresh: Collection[nn.Parameter] | None = None
    ) -> dict[str, Any]:
        """Build both for Lightning.

        Args:
            parameters: The parameters of the network.
            total_steps: Number of optimiser steps of the training.
            fresh: Those that begin at random; None: all.

        Returns:
            What `LightningModule.configure_optimizers` returns.
        """
        optimizer = self.optimizer(parameters)
        if self.schedule is None:
            return {"optimizer": optimizer}
        kind = getattr(self.schedule, "func", self.schedule)
        if kind is OneCycleLR:
            schedule = {"scheduler": self.schedule(optimizer, total_steps=total_steps), "interval": "step"}
        else:
            schedule = {"scheduler": self.schedule(optimizer), "interval": "epoch"}
            if kind is ReduceLROnPlateau:
                schedule["monitor"] = self.monitor
        return {"optimizer": optimizer, "lr_scheduler": schedule}


@dataclass(frozen=True)
class AutoOptimization:
    """AdamW and one cycle of the learning rate, whose height depends on what a parameter begins with.

    Loshchilov, Hutter: Decoupled weight decay regularization (ICLR 2019).

    Args:
        lr: The highest learning rate of parameters that begin at random: a whole network, or the new head of a trained one.
        lr_trained: That of parameters that begin with trained weights.
        weight_decay: Of all parameters.

    Raises:
        UserError: A rate is not positive, or the weight decay negative.
    """

    lr: LearningRate = 1e-3
    lr_trained: LearningRate = 1e-4
    weight_decay: Penalty = 0.01

    def __post_init__(self) -> None:
        check_fields(self, "optimization")

    def configure(
        self, parameters: Iterable[nn.Parameter], total_steps: int, fresh: Collection[nn.Parameter] | None = None
    ) -> dict[str, Any]:
        """Build optimiser and schedule for Lightning, with a group of parameters for each learning rate.

        Args:
            parameters: The parameters of the network.
            total_steps: Number of optimiser steps of the training.
            fresh: Those that begin at random; None: all.

        Returns:
            What `LightningModule.configure_optimizers` returns.
        """
        listed = list(parameters)
        chosen = {id(parameter) for parameter in (listed if fresh is None else fresh)}
        groups = [
            (rate, [parameter for parameter in listed if (id(parameter) in chosen) == is_fresh])
            for is_fresh, rate in ((True, self.lr), (False, self.lr_trained))
        ]
        rates = [rate for rate, members in groups if members]
        optimizer = AdamW([{"params": members} for _, members in groups if members], weight_decay=self.weight_decay)
        schedule = OneCycleLR(optimizer, max_lr=rates, total_steps=total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
