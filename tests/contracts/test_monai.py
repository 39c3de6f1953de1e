"""MONAI's own loader, trainer and evaluator with our network and losses: as a user of MONAI would write it."""

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.utils import set_determinism
from tests.modules import drawn, same_state

from guided_attention import MSGA
from guided_attention.losses import CrossEntropyLoss, DiceCrossEntropyLoss, GuidedAttentionLoss

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 5.0, 1.0], dtype=torch.float64))
guided = GuidedAttentionLoss(DiceCrossEntropyLoss())
LOSSES = {
    "plain": DiceCrossEntropyLoss(class_weights=[1.0, 2.0, 0.5]),
    "guided": lambda logits, target: guided(logits, target).total,
}


def cases(*, with_metadata):
    """Return two images and labels, channel first, as MONAI's transforms leave them."""
    labels = torch.randint(3, (4, 1, 37, 41), generator=torch.Generator().manual_seed(0))
    found = []
    for image, label in zip(drawn(4, 1, 37, 41), labels, strict=True):
        case = {"image": image, "label": label}
        if with_metadata:
            case = {
                key: MetaTensor(x, affine=AFFINE, meta={"filename_or_obj": key}) for key, x in case.items()
            }
        found.append(case)
    return found


def without_channel_axis(batch, device, non_blocking, **_):
    """Hand the trainer images (batch, channel, *space) and labels (batch, *space)."""
    image, label = (batch[key].to(device, non_blocking=non_blocking) for key in ("image", "label"))
    return image, label[:, 0]


def trained(loss, *, with_metadata):
    """Return a network after two steps, the losses of the steps, and what an evaluator predicts with it."""
    set_determinism(0)
    model = MSGA(num_classes=3, encoder="resnet18", channels=8)
    loader = DataLoader(Dataset(cases(with_metadata=with_metadata)), batch_size=2, num_workers=0)
    steps = []

    def recorded(prediction, target):
        value = loss(prediction, target)
        steps.append(value.item())
        return value

    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=loader,
        network=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        loss_function=recorded,
        prepare_batch=without_channel_axis,
        decollate=False,
    )
    trainer.run()
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=model,
        prepare_batch=without_channel_axis,
        decollate=False,
    )
    evaluator.run()
    return model, steps, evaluator.state.output["pred"]


@pytest.mark.peer
@pytest.mark.parametrize("name", LOSSES)
def test_two_steps_of_monais_trainer_give_the_weights_of_plain_tensors(name):
    model, steps, prediction = trained(LOSSES[name], with_metadata=True)
    plain, plain_steps, plain_prediction = trained(LOSSES[name], with_metadata=False)
    assert len(steps) == 2
    assert steps == plain_steps
    assert same_state(plain, model)
    assert isinstance(prediction, MetaTensor)
    assert torch.equal(prediction.affine, AFFINE.expand(2, 4, 4))
    assert torch.equal(prediction.as_tensor(), plain_prediction)


def test_labels_with_monais_channel_axis_are_told_what_to_do(without_shape_checks):
    del without_shape_checks
    batch = next(iter(DataLoader(Dataset(cases(with_metadata=True)), batch_size=2)))
    logits = MSGA(num_classes=3, encoder="resnet18", channels=8)(batch["image"])
    with pytest.raises(ValueError, match=r"Take off the channel axis: `target\[:, 0\]`"):
        CrossEntropyLoss()(logits, batch["label"])
