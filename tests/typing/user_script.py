"""What users write: build a network, take a step, predict, score. Type checkers read it against the built wheel."""

from typing import assert_type

import numpy as np
import torch
from torch import Tensor

from guided_attention import MSGA, SegmentationModel
from guided_attention.case import Case
from guided_attention.data import make_phantom
from guided_attention.losses import dice_cross_entropy_loss
from guided_attention.metrics import dice


def step(model: SegmentationModel, optimizer: torch.optim.Optimizer, image: Tensor, target: Tensor) -> float:
    logits = assert_type(model(image), Tensor)
    loss = assert_type(dice_cross_entropy_loss(logits, target), Tensor)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


def main() -> tuple[list[float], dict[int, float]]:
    torch.manual_seed(0)
    case = assert_type(make_phantom(seed=0, size=32), Case)
    assert case.labels is not None
    image = torch.from_numpy(case.image).transpose(0, 1)[13:17]
    reference = case.labels[13:17]
    model = assert_type(MSGA(in_channels=1, num_classes=5, encoder="resnet18", channels=8), SegmentationModel)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    target = torch.from_numpy(reference.astype(np.int64))
    losses = [step(model, optimizer, image, target) for _ in range(2)]
    logits = assert_type(model.eval()(image), Tensor)
    predicted = logits.argmax(dim=1).numpy()
    return losses, {label: dice(predicted == label, reference == label) for label in (1, 2, 3, 4)}


if __name__ == "__main__":
    print(*main(), sep="\n")
