"""What is measured: ours, twins that store the attention weights as others do, and networks of other libraries.

A task takes a `Spec` and builds the weights. What it returns takes a side length and builds the inputs; what that
returns is the work, to be timed. So nothing but the work is.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

import torch
from examples.baselines import attention_unet, unet
from tests.reference.original import Original
from torch import Tensor, nn

from benchmarks.rows import Spec
from guided_attention import CAM, MSGA, PAM, SegmentationModel
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import export_original
from guided_attention.training import ModelWithLoss

__all__ = [
    "DTYPES",
    "Twin",
    "Unavailable",
    "Work",
    "attention",
    "dahead",
    "evaluation",
    "image_and_target",
    "network",
    "stored",
    "training",
]

Work: TypeAlias = Callable[[int], Callable[[], object]]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHANNELS = 64
CLASSES = 5


class Unavailable(Exception):  # noqa: N818 - it says what is so, and no program is wrong
    """A network of another library cannot be built here; the message says why."""


def stored(pam: PAM, x: Tensor) -> Tensor:
    """Position attention as the original code computes it: the whole matrix of weights in memory."""
    query, key, value = (project(x).flatten(2) for project in (pam.query, pam.key, pam.value))
    weights = torch.softmax(torch.bmm(query.transpose(1, 2), key), dim=-1)
    gathered = torch.bmm(value, weights.transpose(1, 2))
    return pam.gate * gathered.reshape(x.shape) + x


def dahead(pam: PAM, x: Tensor) -> Tensor:
    """Position attention in the manner of mmsegmentation's DAHead: the same matrix, positions as rows in memory."""
    query = pam.query(x).flatten(2).transpose(1, 2).contiguous()
    key = pam.key(x).flatten(2)
    value = pam.value(x).flatten(2).transpose(1, 2).contiguous()
    weights = torch.softmax(torch.bmm(query, key), dim=-1)
    gathered = torch.bmm(weights, value).transpose(1, 2).contiguous()
    return pam.gate * gathered.reshape(x.shape) + x


def attention(spec: Spec) -> Work:
    """PAM alone, all tensors in the precision of the spec: its forward pass, its backward pass, or both."""
    pam = _opened(PAM(CHANNELS)).to(spec.device, DTYPES[spec.precision])
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": pam,
        "twin": partial(stored, pam),
        "dahead": partial(dahead, pam),
    }
    way = ways[spec.who]

    def at(side: int) -> Callable[[], object]:
        shape = (spec.batch, CHANNELS, side, side)
        draw = partial(torch.randn, shape, device=spec.device, dtype=DTYPES[spec.precision])
        x, gradient = draw(requires_grad=True), draw()
        if spec.part == "forward":
            return lambda: way(x)
        if spec.part == "backward":
            y = way(x)
            return lambda: y.backward(gradient)
        return lambda: way(x).backward(gradient)

    return at


def training(spec: Spec) -> Work:
    """One training step: forward pass, the paper's loss, backward pass, a step of Adam.

    Ours and the peers have Adam's fused form, which their users can ask for; the twin has it as the original calls it.
    """
    if spec.who == "twin":
        twin = Twin(network("ours").to(spec.device))
        loss, parameters, fused = twin.loss, twin.parameters, None
    else:
        model = network(spec.who).to(spec.device).train()
        if spec.who == "sparing" and isinstance(model, SegmentationModel):
            model.set_grad_checkpointing()
        loss, parameters, fused = partial(loss_of, model), list(model.parameters()), True
    optimizer = torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.99), fused=fused)

    def at(side: int) -> Callable[[], object]:
        image, target = image_and_target(spec, side)
        optimizer.zero_grad()  # the gradients of the first, small pass are not held at the start

        def step() -> None:
            with _autocast(spec):
                total = loss(image, target)
            total.backward()
            optimizer.step()

        return step

    return at


def evaluation(spec: Spec) -> Work:
    """One forward pass in evaluation mode, without gradients."""
    if spec.who == "twin":
        predict: Callable[[Tensor], Tensor] = Twin(network("ours").to(spec.device)).predict
    else:
        predict = network(spec.who).to(spec.device).eval()

    def at(side: int) -> Callable[[], object]:
        image, _ = image_and_target(spec, side)

        def forward() -> None:
            with torch.inference_mode(), _autocast(spec):
                predict(image)

        return forward

    return at


class Twin:
    """The original's network written out, on its own copy of the weights of a network of ours in that layout."""

    def __init__(self, model: SegmentationModel) -> None:
        state = export_original(model)
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        self.names = [name for name in state if not name.endswith(buffers)]
        self.parameters = [state[name].requires_grad_() for name in self.names]
        self._training = Original(state, training=True)
        self._evaluating = Original(state, training=False)

    def loss(self, image: Tensor, target: Tensor) -> Tensor:
        """Return eight cross-entropies, guidance and reconstruction, weighted as in `GuidedAttentionLoss`."""
        parts = self._training.loss_parts(image, target)
        return parts["segmentation"] + 0.25 * parts["guidance"] + 0.1 * parts["reconstruction"]

    def predict(self, image: Tensor) -> Tensor:
        """Return the logits of evaluation mode."""
        return self._evaluating.run(image)[0]


def loss_of(model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    """Return the paper's loss; of a network without side predictions that is the cross-entropy of its logits."""
    return ModelWithLoss(model, GuidedAttentionLoss())(image, target).total


def network(who: str) -> nn.Module:
    """Build a network for images of one channel and five classes, the same weights every time; gates are open."""
    original_layout = partial(MSGA, encoder="resnext101_32x8d", shared_guide=False)
    makers: dict[str, Callable[[], nn.Module]] = {
        "ours": original_layout,
        "sparing": original_layout,
        "msga": MSGA,
        "attention_unet": partial(_peer, attention_unet),
        "unet": partial(_peer, unet),
        "manet": _manet,
    }
    torch.manual_seed(0)
    return _opened(makers[who]())


def image_and_target(spec: Spec, side: int) -> tuple[Tensor, Tensor]:
    """Return images and labels of noise, the same every time: how long the sums take does not hang on them."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(spec.batch, 1, side, side, generator=generator)
    target = torch.randint(CLASSES, (spec.batch, side, side), generator=generator)
    return image.to(spec.device), target.to(spec.device)


def gates(model: nn.Module) -> Iterable[Tensor]:
    """Return the gates of all attentions."""
    return [module.gate for module in model.modules() if isinstance(module, PAM | CAM)]


def _opened(model: nn.Module) -> nn.Module:
    """Open the gates, which are shut at birth: nothing that a trained network needs may be left out."""
    for gate in gates(model):
        nn.init.constant_(gate, 0.5)
    return model


def _peer(make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except ImportError as error:
        raise Unavailable(str(error)) from error


def _manet() -> nn.Module:
    """MA-Net of segmentation-models-pytorch on the encoder that MSGA has."""
    try:
        import segmentation_models_pytorch as smp  # noqa: PLC0415
    except (
        ImportError,
        RuntimeError,
    ) as error:  # torchvision raises RuntimeError where it does not fit torch
        raise Unavailable(f"segmentation-models-pytorch cannot be imported: {error}") from error
    return smp.MAnet("resnext101_32x4d", encoder_weights=None, in_channels=1, classes=CLASSES)


def _autocast(spec: Spec) -> torch.autocast:
    return torch.autocast(spec.device.split(":")[0], torch.bfloat16, enabled=spec.precision == "bf16")
