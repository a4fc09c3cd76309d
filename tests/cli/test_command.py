"""What a command says of itself, and of a typo: composed in this process as the command does it."""

import os
import re
import string
from pathlib import Path

import pytest
from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import forked
from seewhy import UserError
from seewhy.cli import help
from seewhy.cli.config import CONFIGS, compose
from seewhy.cli.main import with_one_message, wrap_message
from seewhy.core.errors import find_nearest

TASKS = ("explain", "train", "robustness", "synthesize", "ground_truth", "doctor", "compare", "audit", "report")
ROOT = CONFIGS.parent


def page(task: str, *overrides: str) -> str:
    """What --help prints."""
    help.register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose_config(task, list(overrides), return_hydra_config=True)
    return string.Template(cfg.hydra.help.template).substitute()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_page_fits_the_terminal_and_names_every_group(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = page(task)
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert f"python src/{task}.py -sc install=bash" in shown
    assert "$" not in shown.replace('"$(', "")
    listed = set(re.findall(r"^  ([a-z_]+)=", shown, re.MULTILINE))
    defaults = OmegaConf.load(CONFIGS / f"{task}.yaml")["defaults"]
    named = {str(next(iter(one))).partition("@")[0] for one in defaults if not isinstance(one, str)}
    named -= {"hydra", "override hydra/help"}
    studies = [path for path in (CONFIGS / "experiment").glob("*.yaml") if f"src/{task}.py" in path.read_text()]
    assert listed >= (named if studies else named - {"experiment"})
    examples = re.findall(rf"^  python src/{task}\.py (.+)$", shown, re.MULTILINE)
    assert len(examples) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_examples_of_the_page_compose(task: str) -> None:
    import shlex

    for script, line in re.findall(r"^  python src/(\w+)\.py (.+)$", page(task), re.MULTILINE):
        words = shlex.split(line, comments=True)
        given = [word for word in words if not word.startswith(("-", "hydra/"))]
        if "-m" in words:
            given = [word.split(",")[0].replace("glob(*)", "rise") for word in given]
        compose(script, given)


@pytest.mark.slow
def test_the_page_shows_the_choices_and_the_keys_of_what_is_chosen() -> None:
    shown = page("explain", "explainer=integrated_gradients", "explainer.n_steps=7", "metric=[deletion]")
    assert re.search(r"^  explainer\.n_steps=7 +a number, or auto", shown, re.MULTILINE)
    assert "  metric=[deletion]" in shown
    assert "study2_experts" in shown
    assert "study3_fooling_image" not in shown
    every = {path.stem for path in (CONFIGS / "explainer").glob("*.yaml")}
    assert every <= set(re.findall(r"\w+", shown))
    assert "gaussian_noise" in page("robustness")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("explainer=gradcam", r"did you mean explainer=grad_cam\?"),
        ("explainer=gradcam++", r"did you mean explainer=grad_cam_plus_plus\?"),
        ("explainer=ig", r"did you mean explainer=integrated_gradients\?"),
        (
            "explainer=shap",
            r"did you mean explainer=deep_lift_shap or explainer=gradient_shap or explainer=kernel_shap\?",
        ),
        ("explainer=saliency,lime", r"only one explainer is taken; .*: -m explainer=saliency,lime$"),
        ("model=vgg16,squeezenet", r"only one model is taken; .*: -m model=vgg16,squeezenet$"),
        ("model=resnet50", r"did you mean model=timm model\.name=resnet50\?"),
        ("model=resnt50", r"did you mean model=timm model\.name=resnet50"),
        ("trainer=cuda", r"did you mean trainer=gpu\?"),
        ("explainer=integrated_gradient", "did you mean explainer=integrated_gradients"),
        ("model=efficientnet", "did you mean model=efficientnet_lite0"),
        ("metric=[deletion,inserton]", "did you mean metric=insertion"),
        ("callbacks=[attribution,tabels]", "did you mean callbacks=tables"),
        ("experiment=study2_expert", "did you mean experiment=study2_experts"),
        ("hydra/launcher=joblb", "did you mean hydra/launcher=joblib"),
        ("modle=timm", "did you mean model="),
        ("explaner.layer=x", r"did you mean explainer\.layer="),
        ("data.rot=x", r"did you mean data\.root="),
        ("callbacks.figures.strenth=1", r"did you mean callbacks\.figures\.strength="),
        ("explainer.n_step=5", r"keys of explainer \(GradCam\): layer, seed"),
        ("explainer.n_steps=5", "choices with such a key: explainer=.*integrated_gradients"),
        ("target=it's x", r'such as "target=\\"it.s x\\""'),
        ("optimization=sgd", r"a group that explain does not have; \+optimization= adds it"),
        ("metric=deletion,insertion", r"'metric=\[deletion,insertion\]'"),
        ("metric=[deletion", "a list needs both brackets and quotes"),
        ("data.root=a(b", "needs quotes inside"),
        ("(x", r"settings are key=value"),
        ("~datas", "datas"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        compose("explain", [override])
    assert "Traceback" not in str(caught.value)


def test_a_good_word_is_not_bent() -> None:
    assert find_nearest("zzzz", ["grad_cam", "lime"]) == []
    assert find_nearest("GRAD-CAM", ["lime", "grad_cam"])[0] == "grad_cam"


def test_messages_are_folded_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    folded = wrap_message("error: " + "word " * 30 + "\n  choices: " + "model_randomization_independent, " * 3)
    assert max(map(len, folded.splitlines())) <= 50
    assert folded.count("model_randomization_independent") == 3


def test_the_frame_ends_with_exit_code_2_and_restores_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.errors import OverrideParseException

    def start() -> None:
        assert os.environ["HYDRA_FULL_ERROR"] == "1"
        raise OverrideParseException("metric=[a", "no viable alternative")

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as stop:
        with_one_message(start, "explain")()
    assert stop.value.code == 2
    assert "error: 'metric=[a' is not understood" in capsys.readouterr().err.replace("\n    ", " ")
    assert "HYDRA_FULL_ERROR" not in os.environ
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(OverrideParseException):
        with_one_message(start, "explain")()


def test_a_network_that_timm_does_not_know_is_named_offline() -> None:
    from seewhy.models.architectures import Timm
    from seewhy.models.build import choose_origin

    with pytest.raises(UserError, match=r"model.name=resnet19: timm has no such network; nearest: .*resnet18"):
        choose_origin("resnet19", Timm("resnet19"), "auto")


def test_every_script_runs_its_task() -> None:
    for task in TASKS:
        text = (ROOT / "src" / f"{task}.py").read_text()
        assert f'run_task("{task}", sys.argv[1:])' in text
        assert "@hydra.main" in text  # the words that the completion of fish looks for


@pytest.mark.slow
def test_completion_offers_the_choices(tmp_path: Path) -> None:
    """What the function that `-sc install=bash` defines asks for when Tab is pressed."""
    line = "python src/explain.py explainer=grad"
    place = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = forked.run(ROOT, "src/explain.py", "-sc", "query=bash", **place)
    assert "explainer=grad_cam" in done.stdout.split(), done.stderr
    assert "explainer=gradient_shap" in done.stdout.split()
