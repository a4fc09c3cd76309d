"""LeGrad against its definition with attention as leaves, torchcam, and the networks that it refuses."""

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from explainer_checks import assert_same, state_of
from layer_twin import enlarged
from seewhy.core.errors import Incompatible
from seewhy.core.types import Targets
from seewhy.explainers.le_grad import LeGrad
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn

B = {"probe_batch_size": 4}


def transformer(**options: object) -> Classifier:
    torch.manual_seed(0)
    return classifier_of(timm.create_model("test_vit", img_size=64, num_classes=5, **options), 64, 5)


class Shifted(TorchFunctionMode):
    """Adds a leaf to one attention matrix, whose gradient is that of the matrix."""

    def __init__(self, leaf: Tensor) -> None:
        super().__init__()
        self.leaf = leaf

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args
        return ((query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) + self.leaf) @ value


def twin(classifier: Classifier, image: Tensor, weights: Tensor, pooling: str) -> Tensor:
    """Sections 3.1 and 3.2 of the paper, block after block, head after head, with the parts of timm's network by name."""
    network: Any = classifier.network
    tokens = network.norm_pre(network._pos_embed(network.patch_embed((image[None] - classifier.mean) / classifier.std)))
    values = torch.zeros(17 if network.num_prefix_tokens else 16, dtype=torch.float64)
    for block in network.blocks:
        leaf = torch.zeros(1, 2, len(values), len(values), dtype=torch.float64, requires_grad=True)
        with torch.enable_grad(), Shifted(leaf):
            formed = block(tokens.detach())
            pooled = formed.mean(1) if pooling == "mean" else formed[:, 0]
            score = network.head(network.fc_norm(network.norm(pooled)))[0] @ weights
        (gradient,) = torch.autograd.grad(score, leaf)
        for head in range(2):
            values += gradient[0, head].clamp_min(0).mean(0) / 2 / len(network.blocks)
        tokens = formed
    return values[-16:].view(4, 4)


@pytest.mark.parametrize("pooling", ["mean", "own"])
def test_slow_twin(pooling: str) -> None:
    classifier, images, targets = transformer(), random_images(2, 64), torch.tensor([1, 4])
    maps = LeGrad(pooling=pooling, **B)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        weights = functional.one_hot(target, 5).double()
        torch.testing.assert_close(found, enlarged(twin(classifier, image, weights, pooling), 64))


def test_patches_that_are_averaged_and_a_contrast() -> None:
    classifier, images = transformer(global_pool="avg", class_token=False, fc_norm=False), random_images(1, 64)
    weights = torch.tensor([[0.0, 1.0, 0.0, -0.5, 0.0]]).double()
    found = [LeGrad(pooling=pooling, **B)(classifier, images, Targets(weights)) for pooling in ("mean", "own")]
    expected = enlarged(twin(classifier, images[0], weights[0], "mean"), 64)
    torch.testing.assert_close(found[0][0], expected)
    assert not torch.allclose(found[0], found[1]), "the network averages normalised tokens, the paper tokens"


def build_torchvision() -> Classifier:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5)
    nn.init.normal_(network.heads.head.weight)
    return classifier_of(network, 32, 5)


@pytest.mark.oracle
def test_equal_to_torchcam() -> None:
    library = pytest.importorskip("torchcam.methods")
    classifier, images, targets = build_torchvision(), random_images(2, 32), torch.tensor([0, 3])
    found = LeGrad(**B)(classifier, images, targets)
    with library.LeGrad(classifier.network, list(classifier.network.encoder.layers)) as extractor:
        scores = classifier.network(((images - classifier.mean) / classifier.std).requires_grad_())
        (small,) = extractor(targets.tolist(), scores, normalized=False)
    for each, expected in zip(found, small, strict=True):
        torch.testing.assert_close(each, enlarged(expected.detach(), 32))


class Attention(nn.Module):
    """Attention that is spelled out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A block that changes its input in place and returns a tuple."""

    def __init__(self, width: int, form: str) -> None:
        super().__init__()
        self.attention, self.norm, self.form = Attention(width), nn.LayerNorm(width), form

    def forward(self, tokens: Tensor) -> Any:
        attended = self.attention(self.norm(tokens))
        if self.form == "in place":
            tokens += attended
            return (tokens, None)
        return tokens + attended


class Own(nn.Module):
    """A transformer of one's own: `form` says how its blocks are spelled."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 8, 8, stride=8)
        self.blocks = nn.ModuleList([Block(8, form) for _ in range(3)])
        self.head, self.form = nn.Linear(8, 5), form

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).mT
        formed = 0.0
        for block in self.blocks:
            returned = block(tokens)
            tokens = returned[0] if self.form == "in place" else returned
            formed = formed + tokens
        if self.form == "passed by":
            tokens = formed
        if self.form == "twice":
            tokens = self.blocks[0](tokens)
        return self.head(tokens.mean(1))


def test_blocks_that_work_in_place_and_return_a_tuple_have_the_same_map() -> None:
    images, targets = random_images(2, 32), torch.tensor([0, 3])
    maps = [LeGrad(**B)(classifier_of(Own(form), 32, 5), images, targets) for form in ("plain", "in place")]
    assert bool(maps[0].any())
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("form", ["passed by", "twice"])
def test_networks_whose_blocks_do_not_hand_everything_on_are_refused(form: str) -> None:
    with pytest.raises(Incompatible, match=r"le_grad needs blocks of one attention.*explainer=grad_cam"):
        LeGrad(**B)(classifier_of(Own(form), 32, 5), random_images(2, 32), torch.tensor([0, 3]))


def test_passes_batches_and_nothing_left_behind() -> None:
    classifier, images, targets = build_torchvision(), random_images(4, 32), torch.tensor([0, 1, 2, 3])
    before = state_of(classifier)
    whole = LeGrad(probe_batch_size=16)(classifier, images, targets)
    assert (classifier.passes.forward, classifier.passes.backward) == (4, 4)
    torch.testing.assert_close(LeGrad(probe_batch_size=3)(classifier, images, targets), whole)
    torch.testing.assert_close(LeGrad(**B)(classifier, images[[2]], targets[[2]]), whole[[2]])
    assert_same(before, state_of(classifier))
    assert all("forward" not in vars(module) for module in classifier.modules())


def test_networks_without_attention_are_refused() -> None:
    with pytest.raises(Incompatible, match=r"le_grad.*no attention.*explainer=grad_cam"):
        LeGrad(**B)(small_cnn(), random_images(1, 32), torch.tensor([0]))


def test_pooled_attention_is_refused() -> None:
    torch.manual_seed(0)
    network = timm.create_model(
        "vit_base_patch16_siglip_224", img_size=64, depth=1, embed_dim=64, num_heads=2, num_classes=5
    )
    with pytest.raises(Incompatible, match=r"\[1, 2, 1, 16\].*explainer=grad_cam"):
        LeGrad(**B)(classifier_of(network, 64, 5), random_images(1, 64), torch.tensor([0]))
