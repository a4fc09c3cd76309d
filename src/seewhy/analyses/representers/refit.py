"""Fit the last linear layer anew, with L2 regularisation, to a stationary point that its gradient certifies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.types import Images
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier


class LastLayer:
    """logits = W f + b, with f the input of the network's last dense layer.

    Found with one uncounted pass of `image` [1, 3, height, width]. Incompatible where the logits are not what a dense
    layer gives for one vector of each image, such as behind a last convolution.
    """

    def __init__(self, classifier: Classifier, image: Images) -> None:
        counted = classifier.passes.forward
        with torch.no_grad(), classifier.frozen(), _calls(classifier) as calls:
            logits = classifier(image)
        classifier.passes.forward = counted
        last_layers = [
            layer
            for layer, features, output in calls
            if features.ndim == 2 and output.shape == logits.shape and torch.equal(output, logits)
        ]
        if not last_layers:
            kinds = [type(module).__name__ for module in classifier.network.modules() if not list(module.children())]
            raise Incompatible(
                f"representer points need a network that ends in a dense layer; {classifier.name} ends in "
                f"{', '.join(kinds[-3:])}: take model=cifar_cnn, vgg16_cifar, efficientnet_lite0 or a timm network"
            )
        self.layer = last_layers[-1]

    def features(self, evaluator: BatchedEvaluator, images: Images) -> tuple[Tensor, Tensor]:
        """(f float32 [n, features], logits float32 [n, classes]) of the images, without gradients."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad(), _calls(evaluator.classifier, self.layer) as calls:
                logits = evaluator.classifier(images[chunk])
            return calls[-1][1].float(), logits.float()

        with torch.inference_mode(False), evaluator.classifier.frozen():
            features, logits = evaluator.run_passes(one, len(images), gradient=False)
        return features, logits


Call = tuple[nn.Linear, Tensor, Tensor]


@contextmanager
def _calls(classifier: Classifier, only: nn.Linear | None = None) -> Iterator[list[Call]]:
    """(layer, input, output) of every call of a dense layer inside the block, or of the calls of `only`."""
    calls: list[Call] = []

    def record(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        calls.append((module, arguments[0].clone(), output.clone()))

    layers = [only] if only else [module for module in classifier.network.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


BLOCK = 4096
"""Training images that are held in float64 at once."""


@dataclass(frozen=True)
class Refit:
    """The stationary point and what it says of every training image."""

    weights: Tensor
    """float64 [classes, features + 1]; the last column belongs to the constant 1."""
    coefficients: Tensor
    """alpha, float64 [n, classes] = (target - softmax) / (2 l2 n): weights = sum over i of alpha_i f_i."""
    gradient_norm: float
    gradient_limit: float


def append_constant(features: Tensor) -> Tensor:
    """Features [n, d] as float64 [n, d + 1] with the constant 1 of the regularised bias."""
    return functional.pad(features.double(), (0, 1), value=1.0)


def refit_last_layer(features: Tensor, targets: Tensor, l2: float, tolerance: float = 1e-6, most: int = 100) -> Refit:
    """Fit W by argmin of mean cross-entropy(targets, softmax(W f)) + l2 ||W||^2, by Newton's method in float64.

    The Newton equation is solved by preconditioned conjugate gradients, in memory that does not grow with
    n x d x classes. The fit ends when the norm of the gradient is below 2 l2 tolerance / max ||f_i||: the sum of the
    representer values of an image whose features are no longer than those is then within `tolerance` of its logit.

    Args:
        features: Inputs of the last layer, [n, d].
        targets: Probabilities of the classes, [n, classes].
        l2: Weight of the squared norm, above 0.
        tolerance: Largest error of a sum of representer values, in logits.
        most: Largest number of Newton steps.

    Returns:
        The weights, the representer coefficients and the gradient that certifies them.

    Raises:
        UserError: `l2` is not above 0, a value is not finite, or the fit does not converge in `most` steps.
    """
    if l2 <= 0:
        raise UserError(f"callbacks.representers.l2={l2} must be above 0: without it there are no representer values")
    if not (bool(features.isfinite().all()) and bool(targets.isfinite().all())):
        raise UserError("the features of the last layer hold NaN or infinite values")
    goals = targets.double()
    problem = _Problem(features, goals / goals.sum(1, keepdim=True), l2)
    limit = 2 * l2 * tolerance / problem.longest
    weights = torch.zeros(targets.shape[1], features.shape[1] + 1, dtype=torch.float64)
    loss, gradient = problem.at(weights)
    for _ in range(most + 1):
        norm = float(gradient.norm())
        if norm <= limit:
            coefficients = (problem.targets - problem.softmax) / (2 * l2 * len(features))
            return Refit(weights, coefficients, norm, limit)
        step = problem.newton_step(gradient, max(1e-3, min(0.1, norm**0.5)))
        slope, size = float((gradient * step).sum()), 1.0
        while size > 1e-10:
            trial, trial_gradient = problem.at(weights + size * step)
            if trial <= loss + 1e-4 * size * slope + 1e-14 * abs(loss):
                break
            size /= 2
        weights, loss, gradient = weights + size * step, trial, trial_gradient
    raise UserError(
        f"the last layer did not reach a stationary point in {most} steps (gradient {norm:.1e}, needed {limit:.1e}); "
        "set a larger callbacks.representers.l2"
    )


class _Problem:
    """Loss, gradient and Newton steps; keeps the softmax of the last point that was looked at."""

    def __init__(self, features: Tensor, targets: Tensor, l2: float) -> None:
        self.features, self.targets, self.l2 = features, targets, l2
        self.softmax = torch.empty(targets.shape, dtype=torch.float64)
        moment, self.longest = torch.zeros(1), 0.0
        for _, block in self._blocks():
            moment = moment + block.T @ block / len(features)
            self.longest = max(self.longest, float(block.norm(dim=1).max()))
        self.moment = moment

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.features), BLOCK):
            span = slice(start, start + BLOCK)
            yield span, append_constant(self.features[span])

    def at(self, weights: Tensor) -> tuple[float, Tensor]:
        """(loss, gradient [classes, features + 1])."""
        loss, gradient, count = 0.0, torch.zeros_like(weights), len(self.features)
        for span, block in self._blocks():
            target, logarithm = self.targets[span], (block @ weights.T).log_softmax(1)
            self.softmax[span] = logarithm.exp()
            loss -= float((target * logarithm).sum()) / count
            gradient += (self.softmax[span] - target).T @ block / count
        return loss + self.l2 * float(weights.square().sum()), gradient + 2 * self.l2 * weights

    def curvature(self, direction: Tensor) -> Tensor:
        """Hessian times `direction` at the last point; float32 is enough for a step that the gradient will judge."""
        product, single, count = 2 * self.l2 * direction, direction.float(), len(self.features)
        for start in range(0, count, BLOCK):
            block, share = self.features[start : start + BLOCK], self.softmax[start : start + BLOCK].float()
            change = block @ single[:, :-1].T + single[:, -1]
            bent = share * (change - (share * change).sum(1, keepdim=True))
            product = product + torch.cat([bent.T @ block, bent.sum(0)[:, None]], dim=1) / count
        return product

    def newton_step(self, gradient: Tensor, accuracy: float) -> Tensor:
        """-Hessian^-1 gradient up to a residual of `accuracy` x the gradient."""
        spread = float((self.softmax * (1 - self.softmax)).mean())
        identity = torch.eye(len(self.moment), dtype=torch.float64)
        factor = torch.linalg.cholesky(spread * self.moment + 2 * self.l2 * identity)
        return _conjugate_gradients(
            self.curvature, -gradient, lambda residual: torch.cholesky_solve(residual.T, factor).T, accuracy
        )


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, condition: Callable[[Tensor], Tensor], accuracy: float
) -> Tensor:
    """x with ||right - product(x)|| <= accuracy ||right||, at most 500 products."""
    solution, residual = torch.zeros_like(right), right
    conditioned = condition(residual)
    direction, goal = conditioned, accuracy * float(right.norm())
    energy = float((residual * conditioned).sum())
    for _ in range(500):
        if float(residual.norm()) <= goal:
            break
        bent = product(direction)
        length = energy / float((direction * bent).sum())
        solution, residual = solution + length * direction, residual - length * bent
        conditioned = condition(residual)
        previous, energy = energy, float((residual * conditioned).sum())
        direction = conditioned + energy / previous * direction
    return solution
