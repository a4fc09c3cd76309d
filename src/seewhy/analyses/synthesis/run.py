"""Run a synthesis: make its images, write them and return what the run's record says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seewhy.analyses.synthesis.base import Output, Synthesis
from seewhy.analyses.synthesis.class_visualization import ClassVisualization
from seewhy.analyses.synthesis.fooling_image import FoolingImage
from seewhy.analyses.synthesis.fooling_run import fool_images
from seewhy.analyses.synthesis.visualization_run import visualize_classes
from seewhy.core.errors import UserError
from seewhy.models.classifier import Classifier

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule


def run_synthesis(
    synthesis: Synthesis, classifier: Classifier, data: LightningDataModule, output: Output
) -> dict[str, Any]:
    """Make the images of a synthesis on the classifier's device and write everything.

    Args:
        synthesis: What to make, with its parameters.
        classifier: The network that the images are made for; it is left as it was.
        data: The images that a fooling image starts from; a class visualization does not use them.
        output: Where files, figures and numbers go.

    Returns:
        What the run's record says of the result.

    Raises:
        UserError: A setting does not fit the classifier or the data.
    """
    if isinstance(synthesis, FoolingImage):
        return fool_images(synthesis, classifier, data, output)
    if isinstance(synthesis, ClassVisualization):
        return visualize_classes(synthesis, classifier, output)
    raise UserError(f"synthesis={synthesis.name} has no runner; choose fooling_image or class_visualization")
