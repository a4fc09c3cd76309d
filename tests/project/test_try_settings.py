"""A bad value of any setting is one message with its key; what is accepted although it is odd has a reason."""

from pathlib import Path

import pytest
import try_settings

from seewhy.cli.config import compose, defer_settings
from seewhy.cli.foreign import check_direction
from seewhy.cli.instantiate import check_arguments
from seewhy.core.errors import UserError
from seewhy.core.settings import check_when_made
from seewhy.data.cifar10 import CIFAR10
from seewhy.data.corruptions.attacks import FGSM, PGD
from seewhy.data.corruptions.base import Corruption
from seewhy.data.corruptions.imagenet_c import GaussianNoise
from seewhy.data.corruptions.imagenet_c_digital import JPEG
from seewhy.explainers.captum_adapter import Captum
from seewhy.explainers.expert import Expert
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.xrai import Xrai
from seewhy.metrics.complexity import Complexity
from seewhy.metrics.faithfulness.infidelity import Infidelity
from seewhy.metrics.faithfulness.pixel_flipping import Insertion
from seewhy.models.cifar_networks import DenseNetwork


@pytest.mark.slow
def test_a_sample_of_all_settings_with_bad_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert try_settings.main(["--sample", "36", "--seed", "3"]) == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("task", try_settings.TASKS)
def test_what_a_trial_stands_on_is_accepted(task: str, tmp_path: Path) -> None:
    """Else every refusal of the walk would be that of the setting beside it."""
    message, _ = try_settings.attempt(try_settings.Trial(task, (), "output", "word"), tmp_path)
    assert message is None


def test_every_setting_is_in_the_walk() -> None:
    keys = {trial.key for trial in try_settings.list_trials()}
    assert {"seed", "data.limit", "metric.deletion.n_steps", "optimization.optimizer.lr", "logger.csv.version"} <= keys
    assert {"ground_truth.patch.share", "audit.effect", "networks", "cast", "audited"} <= keys
    assert {"corruption.pgd.step", "synthesis.margin", "trainer.devices", "callbacks.terminal.rows"} <= keys


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (IntegratedGradients, {"map_tolerance": 0.1}, "explainer.map_tolerance=0.1 is not read with n_steps=50"),
        (
            IntegratedGradients,
            {"n_steps": "auto", "rule": "trapezoid"},
            "explainer.rule=trapezoid is not read with n_steps=auto",
        ),
        (Xrai, {"tolerance": 0.1}, "explainer.tolerance=0.1 is not read"),
        (Lrp, {"rule": "z_plus", "gamma": 1.0}, "explainer.gamma=1.0 is not read by rule=z_plus"),
        (Expert, {"n_steps": 9}, "explainer.n_steps=9 is not read with distribution=image"),
        (GradientShap, {"baseline_files": "x", "baseline": "white"}, "explainer.baseline=white is not read"),
        (Infidelity, {"perturbation": "noise", "baseline": "white"}, "metric.infidelity.baseline=white is not read"),
        (CIFAR10, {"augmentation": False, "shift": 2}, "data.shift=2 is not read with data.augmentation=false"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(kind: type, settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        kind(**settings)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (Insertion, {"n_steps": -1}, "metric.insertion.n_steps=-1 must be a whole number from 1 to 1,000,000"),
        (Infidelity, {"size": 2}, "metric.infidelity.size=2 must be a number above 0 and at most 1"),
        (CIFAR10, {"batch_size": True}, "data.batch_size=true must be a whole number from 1 to 65,536"),
        (Lrp, {"epsilon": -1}, "explainer.epsilon=-1 must be a number from 0 to 1,000,000"),
        (GaussianNoise, {"lowest": -0.1}, "corruption.gaussian_noise.lowest=-0.1 must be a number from 0"),
        (JPEG, {"quality": True}, "corruption.jpeg.quality=true must be a whole number from 1 to 100"),
        (
            PGD,
            {"eps": ["8/255"], "step": 0},
            "corruption.pgd.step=0 must be a number from 0 to 1 or a fraction such as 8/255, above 0",
        ),
        (FGSM, {"eps": [2]}, "corruption.fgsm.eps=[2] must be a list that is not empty"),
        (DenseNetwork, {"side": 0}, "model.arguments.side=0 must be a whole number from 1 to 4,096"),
        (Captum, {"options": {"abs": True, "n_steps": {"a": 1}}}, "explainer.options.n_steps={a: 1} must be true or"),
        (Corruption, {"levels": [JPEG()], "moves_pixels": 1}, "corruption.moves_pixels=1 must be true or false"),
    ],
)
def test_an_object_made_in_python_is_checked_by_the_same_ranges(
    kind: type, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        kind(**settings)
    assert str(caught.value).count("must be") == 1
    assert words in str(caught.value)


def test_the_levels_of_a_corruption_have_the_ranges_of_its_class() -> None:
    level = {"_target_": "seewhy.data.corruptions.imagenet_c.GaussianNoise", "lowest": -0.1}
    config = {"_target_": "seewhy.data.corruptions.base.Corruption", "levels": [level]}
    with pytest.raises(UserError, match=r"corruption\.noise\.levels\.0\.lowest=-0\.1 must be a number from 0 to"):
        check_arguments(config, "corruption.noise")


def test_a_metric_of_the_users_own_is_checked_too() -> None:
    class Mine(Complexity):
        def __init__(self, power: int = 2) -> None:
            super().__init__()

    Mine(3)
    with pytest.raises(UserError, match=r"metric\.mine\.power=two must be a whole number"):
        Mine("two")  # type: ignore[arg-type]


def test_a_class_that_extends_another_is_asked_for_its_own_arguments() -> None:
    @check_when_made("data")
    class Base:
        def __init__(self, size: int) -> None:
            self.size = size

    @check_when_made("data")
    class Small(Base):
        def __init__(self, name: str, **options: float) -> None:
            super().__init__(name)  # type: ignore[arg-type]

    assert Small("four", scale=1.5).size == "four"  # type: ignore[comparison-overlap]
    with pytest.raises(UserError, match=r"data\.name=4 must be text"):
        Small(4)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Small()  # type: ignore[call-arg]


def test_the_worst_weights_are_not_kept() -> None:
    checkpoint = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": "val/accuracy", "mode": "min"}
    with pytest.raises(UserError, match=r"callbacks\.checkpoint\.mode=min must be max: of val/accuracy the largest"):
        check_direction(checkpoint, "callbacks.checkpoint")
    check_direction(checkpoint | {"monitor": "val/loss"}, "callbacks.checkpoint")


@pytest.mark.parametrize("override", ["data.root={}", "callbacks.figures={}"])
def test_an_empty_mapping_that_changes_nothing_is_refused(override: str) -> None:
    with pytest.raises(UserError, match="changes nothing"):
        compose("explain", [override])


def test_settings_of_a_varied_group_wait_for_the_job() -> None:
    typed = ["explainer=saliency,smooth_grad", "explainer.reduction=max", "model.size=64", "explainer.seed=1,2", "-m"]
    assert defer_settings(typed) == [typed[0], "explainer.reduction=choice(max)", *typed[2:]]
