"""F-Fidelity: by a loop over removals, on a second network, and the callback that fine-tunes it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from curve_twin import curved_classifier, scorer, visits
from seewhy.callbacks.masking import Masking, draw_hidden
from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.types import Batch
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.in_domain import FFidelity
from seewhy.metrics.faithfulness.pixel_flipping import Deletion
from seewhy.metrics.perturbation_curves import collect_curves
from seewhy.models.classifier import Classifier
from seewhy.models.weights import save_weights
from tiny import random_images

IMAGES, TARGETS = random_images(2, 8), torch.tensor([0, 2])
MAPS = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    other = curved_classifier(seed=9)
    save_weights(other.network, other.facts, tmp_path / "tuned.safetensors")
    return tmp_path / "tuned.safetensors"


def build_context(**changes: torch.Tensor) -> MetricContext:
    return MetricContext(curved_classifier(), IMAGES, TARGETS, changes.get("maps", MAPS), seed=5, probe_batch_size=7)


def test_it_equals_the_loop_over_removals_on_the_fine_tuned_network(weights: Path) -> None:
    tuned, got = curved_classifier(seed=9), FFidelity(weights, sizes=(0.25, 0.75), n_samples=3).measure(build_context())
    for row, (image, target, attribution) in enumerate(zip(IMAGES, TARGETS.tolist(), MAPS, strict=True)):
        score, places = scorer(tuned, target, "probability"), visits(attribution)
        drops: dict[str, list[float]] = {"plus": [], "minus": []}
        for size in (0.25, 0.75):
            explained = round(size * 64)
            for side, chosen in (("plus", places[:explained]), ("minus", places[explained:])):
                for sample in range(3):
                    generator = seed_generator(5, image, f"f-fidelity {size:g} {side} {sample}")
                    drawn = torch.randperm(len(chosen), generator=generator)[: min(round(len(chosen) / 2), round(6.4))]
                    removed = image.clone()
                    for position in drawn.tolist():
                        removed[:, chosen[position][0], chosen[position][1]] = 0
                    drops[side].append(score(image) - score(removed))
        for side, values in drops.items():
            assert float(got[side][row]) == pytest.approx(sum(values) / len(values), abs=1e-5)
        assert float(got["score"][row]) == pytest.approx(float(got["plus"][row] - got["minus"][row]), abs=1e-6)


def test_deletion_of_the_fine_tuned_network_stands_beside_the_plain_one(weights: Path) -> None:
    context = build_context()
    got = FFidelity(weights, n_samples=1, n_steps=8).measure(context)
    other = MetricContext(curved_classifier(seed=9), IMAGES, TARGETS, MAPS, seed=5, probe_batch_size=7)
    torch.testing.assert_close(got["deletion"], Deletion(n_steps=8).measure(other)["score"])
    torch.testing.assert_close(got["deletion_plain"], Deletion(n_steps=8).measure(build_context())["score"])
    assert {point.curve for point in collect_curves(context)} == {"deletion/black", "in_domain_deletion/black"}
    assert not torch.allclose(got["deletion"], got["deletion_plain"])


def test_the_passes_of_both_networks_are_counted_and_neither_is_changed(weights: Path) -> None:
    context = build_context()
    before = {name: value.clone() for name, value in context.classifier.state_dict().items()}
    FFidelity(weights, sizes=(0.5,), n_samples=2, n_steps=8).measure(context)
    assert context.classifier.passes.forward == 2 * (2 * (2 + 7) + 2 * 2)
    for name, value in context.classifier.state_dict().items():
        assert torch.equal(before[name], value), name


def test_without_weights_it_is_the_network_itself() -> None:
    got = FFidelity(n_samples=2).measure(build_context())
    torch.testing.assert_close(got["deletion"], got["deletion_plain"], rtol=0, atol=0)
    assert "as it is" in FFidelity().variant


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = curved_classifier()
    facts = other.facts.replace({"classes": ("a", "b", "d")})
    save_weights(other.network, facts, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="has other classes"):
        FFidelity(tmp_path / "other.safetensors").measure(build_context())


def test_missing_weights_are_named_before_anything_is_computed() -> None:
    with pytest.raises(UserError, match=r"metric\.f_fidelity\.weights=word: there is no such file"):
        FFidelity("word")


def test_masking_hides_up_to_a_share_of_the_training_images() -> None:
    torch.manual_seed(0)
    hidden = draw_hidden(torch.rand(400, 3, 32, 32), 0.5).float().mean((1, 2, 3))
    assert 0.23 < float(hidden.mean()) < 0.27
    assert float(hidden.max()) < 0.75
    images = torch.rand(6, 3, 20, 28) * 0.5 + 0.5
    names = [str(number) for number in range(6)]
    batch = Batch(images.clone(), torch.zeros(6, dtype=torch.int64), names, names, names, [])
    Masking(0.5).on_train_batch_start(None, None, batch, 0)  # type: ignore[arg-type]
    changed = batch.images != images
    assert bool(changed.any())
    assert bool((batch.images[changed] == 0).all())
    assert bool((changed.all(1) == changed.any(1)).all()), "all channels of a pixel go together"


def test_both_networks_compute_in_one_precision(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    types = []
    forward = Classifier.forward

    def spy(self: Classifier, images: Tensor) -> Tensor:
        types.append((self is context.classifier, self.narrow))
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", spy)
    context = build_context()
    with torch.autocast("cpu", torch.bfloat16), context.classifier.frozen():
        FFidelity(weights, sizes=(0.5,), n_samples=2, n_steps=8).measure(context)
    assert set(types) == {(True, torch.bfloat16), (False, torch.bfloat16)}
