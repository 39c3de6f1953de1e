"""Put PAM, CAM or guided attention into a network of your own, and train it for a minute on phantoms.

python examples/compose_blocks.py --block guided
"""

from command_line import require_run_folder, run_command, run_parser

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from guided_attention import CAM, PAM, GuidedAttention, Trainer
from guided_attention.data import CHAOS_MR_LABELS as LABELS
from guided_attention.data import make_phantom
from guided_attention.evaluation import Validation, evaluate, format_table, summarize
from guided_attention.figures import save_prediction_grid
from guided_attention.inference import Predictor
from guided_attention.losses import DiceCrossEntropyLoss, GuidedAttentionLoss
from guided_attention.preparation import Preparation
from guided_attention.sampling import FlipRotate, SliceDataset
from guided_attention.training import TrainerConfig, polynomial_decay, seed_everything

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
    """A plain encoder-decoder with skip connections and a block at its bottleneck."""

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


def main(args: argparse.Namespace) -> None:
    """Train the network with the chosen block, and score two phantoms that it has not seen."""
    require_run_folder(args.out, resume=args.resume)
    seed_everything(args.seed)
    cases = [make_phantom(args.seed, subject=number, size=64) for number in range(1, 13)]
    train, val, test = cases[:9], cases[9:10], cases[10:]
    model = EncoderDecoder(BLOCKS[args.block](), LABELS.num_classes)
    preparation = Preparation(slice_axis="axial").fit(train)
    slices = SliceDataset(train, preparation, LABELS, augment=FlipRotate(flip=0, mirror=0))
    predictor = Predictor(model, preparation, LABELS, device=args.device)
    trainer = Trainer(
        model,
        GuidedAttentionLoss(DiceCrossEntropyLoss()),
        torch.optim.AdamW(model.parameters(), lr=3e-3),
        train_loader=DataLoader(slices, batch_size=8, shuffle=True, drop_last=True),
        validate=Validation(predictor.with_model, val, LABELS),
        run_dir=args.out,
        config=TrainerConfig(
            max_epochs=args.epochs,
            max_minutes=args.minutes,
            seed=args.seed,
            device=args.device,
            schedule=polynomial_decay(),
        ),
        metadata=predictor.metadata,
    )
    trainer.fit(resume=args.resume)

    # A network of your own cannot be rebuilt from numbers: pass it, and its best weights are loaded.
    predictor = Predictor.load(args.out, device=args.device, model=model)
    predictions = {case.case_id: predictor.predict(case) for case in test}
    save_prediction_grid(args.out / "test_subjects.png", test, list(predictions.values()), LABELS)
    print(format_table(summarize(evaluate(lambda case: predictions[case.case_id], test, LABELS))))
    print(f"picture and log: {args.out}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = run_parser(__doc__, out=None, minutes=1)
    parser.add_argument(
        "--block", default="guided", choices=sorted(BLOCKS), help="the block at the bottleneck"
    )
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    args.out = args.out or Path("runs") / f"compose-{args.block}"
    return args


if __name__ == "__main__":
    run_command(main, parse())
