"""Makes the golden folders: see README.md beside this file."""

import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from guided_attention._checkpoints import save_checkpoint
from guided_attention.case import Case
from guided_attention.inference import PostProcessing, Predictor
from guided_attention.labels import LabelSpec
from guided_attention.models import MSGA, msga_lite
from guided_attention.preparation import CenterCrop, Preparation, Window

KEPT = 200
AFFINE = np.array([[0.0, 0.0, -5.0, 40.0], [-1.5, 0.0, 0.0, 20.0], [0.0, 1.25, 0.0, -30.0], [0, 0, 0, 1.0]])


def main() -> None:
    """Write the archive of an ensemble, the newest kind, into a folder."""
    into = Path(sys.argv[1])
    organs = LabelSpec({2: "liver", 5: "right kidney", 7: "left kidney"}, pairs=((5, 7),))
    one = scan(1)
    preparation = Preparation(spacing_mm=(None, 1.4, 1.4)).fit([one])
    torch.manual_seed(52)
    members = [
        thinned(build(1, 4, encoder="resnet18", channels=4), 2000, seed, 7)
        for build, seed in ((MSGA, 52), (msga_lite, 53))
    ]
    with TemporaryDirectory() as folder:
        root = Path(folder) / "predictor"
        predictor = Predictor(
            members,
            preparation,
            organs,
            patch_size=(24, 16),
            overlap=0.25,
            mirror_axes=("width",),
            postprocess=PostProcessing(keep_largest=(5,)),
        )
        predictor.save(root)
        archive(predictor, one, root, into / "predictor-2.tar.xz")


def first_version(into: Path) -> None:
    """Write both archives of the first version, as it was then."""
    organs = LabelSpec({2: "liver", 5: "spleen"}, pairs=((2, 5),), ignore_value=255)
    one = scan(1)
    preparation = Preparation(spacing_mm=(None, 1.4, 1.4), min_size=(48, 32)).fit([one])
    network = thinned(MSGA(1, 3, encoder="resnet18", channels=4))
    with TemporaryDirectory() as folder:
        root = Path(folder) / "predictor"
        predictor = Predictor(
            network, preparation, organs, postprocess=PostProcessing(keep_largest=organs.values)
        )
        predictor.save(root)
        archive(predictor, one, root, into / "predictor-1.tar.xz")
    two = scan(2)
    preparation = Preparation(
        intensity=(Window(-2, 2), Window(-3, 3)),
        crop=CenterCrop((None, 29, 17)),
        multiple=(16, 16),
        neighbours=1,
    ).fit([two])
    network = thinned(msga_lite(6, 3, encoder="resnet18", channels=4))
    with TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        root.mkdir()
        predictor = Predictor(network, preparation, organs)
        contents = {"model": network.state_dict(), "epoch": 3, "score": 0.5, "metadata": predictor.metadata}
        save_checkpoint(root / "best.pt", contents)
        archive(predictor, two, root, into / "run-1.tar.xz")


def scan(channels: int) -> Case:
    """Return a smooth scan, stored sagittally."""
    rng = np.random.default_rng(7)
    places = np.meshgrid(*(np.linspace(-2, 2, size) for size in (5, 31, 37)), indexing="ij")
    waves = [
        sum(np.sin(rng.uniform(1, 3) * place + rng.uniform(0, 6)) for place in places)
        for _ in range(channels)
    ]
    names = ("T1", "T2")[:channels] if channels > 1 else ()
    return Case("golden", np.stack(waves).astype(np.float32), None, AFFINE, names)


def thinned(model: nn.Module, kept: int = KEPT, seed: int = 11, least: int = 8) -> nn.Module:
    """Draw the kernels, keep one weight in `kept` or `least` a channel, and open the gates."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                share = max(1 / kept, least / parameter[0].numel())
                chosen = torch.rand(parameter.shape, generator=generator) < share
                # A quarter has an exact form, and few forms make a small file.
                parameter.copy_(((drawn * 2).round() / 4).where(chosen, 0))
            elif parameter.numel() == 1:
                parameter.fill_(0.5)
    return model.eval()


def archive(predictor: Predictor, case: Case, root: Path, path: Path) -> None:
    """Pack a folder with a scan and its prediction."""
    prediction = predictor.predict(case)
    print(path.name, np.unique(prediction.labels, return_counts=True), prediction.uncertainty.mean())
    np.savez_compressed(
        root.parent / "scan.npz",
        image=case.image,
        affine=case.affine,
        channel_names=np.array(case.channel_names),
        labels=prediction.labels,
        uncertainty=prediction.uncertainty,
    )
    with tarfile.open(path, "w:xz", preset=6) as tar:
        tar.add(root, root.name)
        tar.add(root.parent / "scan.npz", "scan.npz")


if __name__ == "__main__":
    main()
