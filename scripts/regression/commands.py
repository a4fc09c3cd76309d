"""The commands whose results are recorded: every task, explainer, metric and corruption at least once."""

from __future__ import annotations

from dataclasses import dataclass

FIXED = ("trainer=cpu", "threads=1", "probe_batch_size=16", "seed=0")
"""What decides the numbers beside the code; `probe_batch_size=auto` would depend on the machine's speed."""
BARE = ("callbacks=numbers", "logger=[]", "page=false")
CIFAR_CNN = "model=cifar_cnn"
TREE = ("data=folder", "data.root=inputs/tree")
SWEEP = "-m"
API = "api"
"""In place of a task: `regression/python_api.py` instead of a command."""


@dataclass(frozen=True)
class Command:
    """One command of the recording.

    Args:
        name: Of its folder below `runs/`, and of its record.
        task: `explain`, `train`, ... for `python src/<task>.py`, or `api`.
        arguments: As typed; `FIXED` and the folder are added where the command makes a run.
        needs_cifar10: Whether it reads CIFAR-10 from `data.root=inputs/cifar10`.
        keeps_output: Whether its standard output is kept.
        fails: Whether it has to end with an error, whose text is kept; it makes no run folder that is read.
        interrupted: Whether it is sent Ctrl-C after its first attribution file.
        resumes: The command whose run it takes up.
    """

    name: str
    task: str
    arguments: tuple[str, ...]
    needs_cifar10: bool = False
    keeps_output: bool = False
    fails: bool = False
    interrupted: bool = False
    resumes: str | None = None

    def full_arguments(self) -> list[str]:
        """The arguments with the fixed settings and the run's folder."""
        if self.task == API:
            return [f"runs/{self.name}"]
        if self.keeps_output:
            return list(self.arguments)
        if self.resumes is not None:
            return [f"resume=runs/{self.resumes}", *self.arguments]
        kind = "sweep" if SWEEP in self.arguments else "run"
        fixed = () if self.task == "report" else FIXED
        return [*self.arguments, *fixed, f"hydra.{kind}.dir=runs/{self.name}"]


def explain(name: str, *arguments: str, **options: bool) -> Command:
    """A command of `explain.py`."""
    return Command(name, "explain", arguments, **options)


def fail(name: str, task: str, *arguments: str) -> Command:
    """A command that has to end with an error."""
    return Command(f"error_{name}", task, arguments, fails=True)


METHODS = (
    explain(
        "every_method",
        *(SWEEP, CIFAR_CNN, "data.limit=3", "explainer=glob(*,exclude=attention_*)"),
        *("metric=[deletion,insertion,average_drop,sparseness]", "logger=[]"),
    ),
    explain(
        "transformer",
        *(SWEEP, "model=timm", "model.name=vit_tiny_patch16_224", "model.weights=random", "model.classes=cifar10"),
        *("data.limit=1", "explainer=attention_gradient,attention_rollout,eigen_cam,layer_cam,deep_lift", *BARE),
    ),
    explain(
        "batch_norm",
        *(SWEEP, "model=vgg16_cifar", "data.limit=2", *BARE),
        "explainer=deep_lift,lrp,expert,guided_backprop,grad_cam_plus_plus,occlusion,xrai",
    ),
    explain(
        "mobilenet", SWEEP, "model=mobilenetv3", "data.limit=2", "explainer=grad_cam,expert,lrp,saliency,blur_ig", *BARE
    ),
    explain("photographs", "data.limit=2", "metric=[deletion,road,complexity]", "metric.deletion.n_steps=5"),
    explain(
        "incremental",
        *(SWEEP, "data.limit=1", "explainer=occlusion", "explainer.window=48", "explainer.stride=32", *BARE),
        "explainer.incremental=true,false",
    ),
    explain("score_cam", "data.limit=1", "explainer=score_cam", "explainer.channels=24", *BARE),
    explain(
        "path_settings",
        *(SWEEP, CIFAR_CNN, "data.limit=2", "explainer=integrated_gradients", "explainer.n_steps=auto", *BARE),
        "explainer.baseline=black,blurred,mean,noise,uniform",
    ),
    explain(
        "lrp_rules", SWEEP, CIFAR_CNN, "data.limit=2", "explainer=lrp", "explainer.rule=epsilon,gamma,z_plus", *BARE
    ),
    explain(
        "expert_against",
        *(CIFAR_CNN, "data.limit=3", "explainer=expert", "explainer.against=runner_up", "explainer.distribution=path"),
        *("callbacks.figures.views=[point_cloud,binary_mask]", "logger=[]"),
    ),
    explain("targets", SWEEP, CIFAR_CNN, *TREE, "explainer=grad_cam", "target=true,runner_up,3,horse", *BARE),
    explain(
        "torchvision",
        *("model=squeezenet", "model.weights=random", "model.classes=cifar10", "model.size=64", "data.limit=2"),
        *("explainer=guided_grad_cam", *BARE),
    ),
    explain("half_precision_passes", CIFAR_CNN, "data.limit=2", "trainer.precision=bf16-mixed", *BARE),
    explain("study", SWEEP, "experiment=study2_vgg16_comparison", "data.limit=3", "page=false"),
)
METRICS = (
    explain("every_metric", CIFAR_CNN, *TREE, "data.masks=inputs/masks", "explainer=saliency", "metric=all"),
    explain(
        "every_metric_of_paths",
        *(CIFAR_CNN, *TREE, "data.masks=inputs/masks", "data.limit=3", "explainer=integrated_gradients"),
        *("explainer.n_steps=8", "target=runner_up", "metric=all", *BARE),
    ),
    explain(
        "every_metric_of_photographs",
        *("data.limit=1", "explainer=input_x_gradient", "model.size=64", "metric=all", *BARE),
    ),
)
FILES = (
    explain(
        "half_precision_maps",
        *(CIFAR_CNN, "data=folder", "data.root=inputs/flat", "explainer=smooth_grad", "explainer.n_samples=5"),
        *(*BARE, "callbacks.attribution.dtype=float16"),
    ),
    explain(
        "compressed_maps",
        *(CIFAR_CNN, "data=folder", "data.root=inputs/flat", "data.batch_size=3", "explainer=layer_cam"),
        *(*BARE, "callbacks.attribution.compressed=true", "callbacks.attribution.limit=4"),
    ),
)
LONG_RUNS = (
    explain("shards/1", CIFAR_CNN, *TREE, "data.batch_size=2", "explainer=rise", "explainer.n_masks=64", "shard=1/2"),
    explain("shards/2", CIFAR_CNN, *TREE, "data.batch_size=2", "explainer=rise", "explainer.n_masks=64", "shard=2/2"),
    Command("merged", "report", ("runs=runs/shards/*",)),
    explain(
        "resumed",
        *(CIFAR_CNN, *TREE, "data.batch_size=1", "explainer=rise", "explainer.n_masks=5000"),
        *("metric=[deletion]", "logger=[]", "page=false"),
        interrupted=True,
    ),
    Command("resume", "explain", (), resumes="resumed"),
    Command("report", "report", ("runs=runs/every_method", "faithfulness=deletion")),
)
ROBUSTNESS = (
    Command(
        "robustness",
        "robustness",
        (
            *(CIFAR_CNN, "data.limit=2", "corruption=all", "callbacks.robustness.workers=0", "explainer=grad_cam"),
            *("+explainer@also.saliency=saliency", "metric=[sparseness]"),
        ),
    ),
    Command(
        "robustness_of_photographs",
        "robustness",
        (
            *("data.limit=1", "corruption=[fog,snow,frost,rotation,elastic,fgsm_study,pgd_study]", "model.size=96"),
            *("callbacks.robustness.workers=0", "logger=[]", "page=false"),
        ),
    ),
)
SYNTHESIS = (
    Command("fooling", "synthesize", (CIFAR_CNN, "data.limit=3")),
    Command(
        "fooling_photograph",
        "synthesize",
        ("data.limit=1", "synthesis.target=stingray", "synthesis.margin=1", "model.size=96", "logger=[]"),
    ),
    Command(
        "visualization",
        "synthesize",
        (
            *(CIFAR_CNN, "synthesis=class_visualization", "synthesis.classes=[cat,ship]", "synthesis.steps=12"),
            "logger=[]",
        ),
    ),
    Command(
        "visualization_of_pixels",
        "synthesize",
        (
            *("model=vgg16_cifar", "synthesis=class_visualization", "synthesis.variant=cs231n", "logger=[]"),
            *("synthesis.classes=[3,4]", "synthesis.steps=12"),
        ),
    ),
)
FEW_BATCHES = ("trainer.max_epochs=1", "+trainer.limit_train_batches=8", "+trainer.limit_val_batches=1")
SMALL_CIFAR10 = ("data=cifar10", "data.root=inputs/cifar10", "data.validation=49600")
TRAINING = (
    Command(
        "training",
        "train",
        (
            *(*FEW_BATCHES, "data.root=inputs/cifar10", "data.limit=40", "callbacks.attribution.limit=3"),
            *("explainer.n_steps=8", "metric=[deletion]"),
        ),
        needs_cifar10=True,
    ),
    Command(
        "training_with_adam",
        "train",
        (
            *(*FEW_BATCHES, "model=vgg16_cifar", "optimization=adam_plateau", "data.root=inputs/cifar10"),
            *("data.limit=20", "callbacks.attribution.limit=2", "explainer=grad_cam", "logger=[]"),
        ),
        needs_cifar10=True,
    ),
    explain(
        "representers",
        *(CIFAR_CNN, *SMALL_CIFAR10, "data.limit=30", "explainer=saliency", "callbacks=representers", "page=false"),
        *("callbacks.attribution.limit=2", "callbacks.representers.pictures=2", "logger=[]"),
        needs_cifar10=True,
    ),
    explain(
        "experts",
        *("experiment=study2_experts", "data.root=inputs/cifar10", "data.validation=49600", "data.limit=60"),
        *("callbacks.experts.images=400", "callbacks.experts.limit=60", "callbacks.attribution.limit=3"),
        *("logger=[]", "page=false"),
        needs_cifar10=True,
    ),
)
OTHERS = (
    Command("python_api", API, ()),
    Command("help_explain", "explain", ("--help",), keeps_output=True),
    Command("help_rise", "explain", ("explainer=rise", "--help"), keeps_output=True),
)
ERRORS = (
    fail("mistyped_choice", "explain", "explainer=salency"),
    fail("mistyped_key", "explain", "explainer=occlusion", "explainer.windw=3"),
    fail("large_window", "explain", CIFAR_CNN, "explainer=occlusion", "explainer.window=64"),
    fail("no_folder", "explain", CIFAR_CNN, "data=folder", "data.root=inputs/nowhere"),
    fail("unknown_class", "explain", CIFAR_CNN, "target=shark"),
    fail("no_masks", "explain", CIFAR_CNN, "metric=[pointing_game]"),
    fail("refused_pair", "explain", "model=mobilenetv3", "explainer=attention_rollout"),
    fail("missing_weights", "explain", "model=vgg16", "explainer=saliency"),
    fail("no_runs", "report", "runs=runs/nowhere"),
)
COMMANDS = (*METHODS, *METRICS, *FILES, *LONG_RUNS, *ROBUSTNESS, *SYNTHESIS, *TRAINING, *OTHERS, *ERRORS)
"""In the order in which they run: a report comes after its runs."""
