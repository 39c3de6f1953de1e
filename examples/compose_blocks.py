"""Set PAM, CAM or guided attention into a network of your own, and train it for a minute on phantoms.

python examples/compose_blocks.py --block guided
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from guided_attention import CAM, PAM, GuidedAttention, Trainer
from guided_attention.data import CHAOS_MR_LABELS, make_phantom
from guided_attention.evaluation import format_table, mean_dice, summarize
from guided_attention.figures import save_prediction_grid
from guided_attention.inference import evaluate_model, evaluate_prediction, predict_case
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.preparation import normalize
from guided_attention.sampling import FlipRotate, SliceDataset
from guided_attention.training import TrainerConfig, load_weights, polynomial_decay, seed_everything

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "pam": lambda: PAM(64),
    "cam": CAM,
    "guided": lambda: GuidedAttention(64),
}


def convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for width in (in_channels, out_channels):
        layers += [
            nn.Conv2d(width, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class EncoderDecoder(nn.Module):
    """A plain encoder-decoder with skip connections and room for a block at its bottleneck."""

    def __init__(self, bottleneck: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([convs(1, 16), convs(16, 32), convs(32, 64)])
        self.bottleneck = bottleneck
        self.up = nn.ModuleList([convs(64 + 32, 32), convs(32 + 16, 16)])
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits at the size of the image."""
        skips: list[Tensor] = []
        for layer in self.down:
            x = layer(x if not skips else nn.functional.max_pool2d(skips[-1], 2))
            skips.append(x)
        x = self.bottleneck(x)
        for layer, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = layer(torch.cat([nn.functional.interpolate(x, skip.shape[2:]), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def main(argv: Sequence[str] | None = None) -> None:
    """Train the network with the chosen block, and score two phantoms that it has not seen."""
    args = parse(argv)
    seed_everything(args.seed)
    cases = [normalize(make_phantom(args.seed, subject=number, size=64)) for number in range(1, 13)]
    train, val, test = cases[:9], cases[9:10], cases[10:]
    model = EncoderDecoder(BLOCKS[args.block](), num_classes=5)
    slices = SliceDataset(train, num_classes=5, augment=FlipRotate(flip=0, mirror=0))
    trainer = Trainer(
        model,
        GuidedAttentionLoss(DiceCrossEntropyLoss()),
        torch.optim.AdamW(model.parameters(), lr=3e-3),
        train_loader=DataLoader(slices, batch_size=8, shuffle=True, drop_last=True),
        validate=lambda network: mean_dice(evaluate_model(network, val, CHAOS_MR_LABELS, distances=False)),
        run_dir=args.out or Path("runs") / f"compose-{args.block}",
        config=TrainerConfig(
            max_epochs=args.epochs, max_minutes=args.minutes, seed=args.seed, schedule=polynomial_decay()
        ),
    )
    result = trainer.fit()
    load_weights(model, result.run_dir / "best.pt")

    predictions = [predict_case(model, case) for case in test]
    scores = []
    for case, prediction in zip(test, predictions, strict=True):
        scores += evaluate_prediction(prediction, case, CHAOS_MR_LABELS)
    save_prediction_grid(result.run_dir / "test_subjects.png", test, predictions, CHAOS_MR_LABELS)
    print(format_table(summarize(scores)))
    print(f"picture and log: {result.run_dir}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--block", default="guided", choices=sorted(BLOCKS), help="what stands at the bottleneck"
    )
    parser.add_argument("--out", type=Path, help="new folder for this run")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=1, help="stop after so many minutes at the latest")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
