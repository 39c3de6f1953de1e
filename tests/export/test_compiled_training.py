"""A trainer of a compiled network compiles the whole step: network, deep supervision, guidance and loss."""

import inspect

import pytest
import torch
from tests.export.conftest import needs_recent_torch
from torch import nn

from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import MSGA
from guided_attention.outputs import LossTerms, SegmentationOutput
from guided_attention.training import (
    Trainer,
    TrainerConfig,
    load_checkpoint,
    load_weights,
    read_log,
    seed_everything,
)

pytestmark = [pytest.mark.graph, needs_recent_torch]

IMAGE = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(3))
TARGET = (IMAGE[:, 0] > 0.5).long()


@pytest.fixture(autouse=True)
def _records_as_users_have_them(monkeypatch):
    for record in (LossTerms, SegmentationOutput):
        monkeypatch.setattr(record, "__init__", inspect.unwrap(record.__init__))


def test_a_compiled_network_is_compiled_with_its_loss_and_stored_under_plain_names(tmp_path):
    graphs = []

    def backend(graph, _inputs):
        graphs.append([getattr(node.target, "__name__", node.target) for node in graph.graph.nodes])
        return graph

    def trainer(network, epochs):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        config = TrainerConfig(max_epochs=epochs, device="cpu", quiet=True)
        data, folder = [(IMAGE, TARGET)], tmp_path / "run"
        return Trainer(
            network, nn.CrossEntropyLoss(), optimizer, train_loader=data, run_dir=folder, config=config
        )

    def network():
        return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))

    folder = trainer(torch.compile(network(), backend=backend, fullgraph=True), 1).fit().run_dir
    assert len(graphs) == 1
    assert graphs[0].count("conv2d") == 2
    assert graphs[0].count("cross_entropy") == 1
    for name in ("last.pt", "best.pt"):
        assert load_checkpoint(folder / name)["model"].keys() == network().state_dict().keys()
    load_weights(network(), folder / "best.pt")
    assert trainer(network(), 2).fit(resume=True).epochs == 2
    assert trainer(torch.compile(network(), backend=backend), 3).fit(resume=True).epochs == 3


def test_the_step_of_the_papers_network_is_one_graph_with_deep_supervision_and_guidance(tmp_path):
    graphs = []

    def backend(graph, _inputs):
        graphs.append([getattr(node.target, "__name__", "") for node in graph.graph.nodes])
        return graph

    model = MSGA(in_channels=1, num_classes=2, encoder="resnet18", channels=4)
    loader = [(IMAGE, TARGET)] * 2
    results = []
    for network in (model, torch.compile(model, backend=backend, fullgraph=True)):
        seed_everything(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        config = TrainerConfig(max_epochs=2, device="cpu", quiet=True)
        folder = tmp_path / str(len(results))
        Trainer(
            network, GuidedAttentionLoss(), optimizer, train_loader=loader, run_dir=folder, config=config
        ).fit()
        results.append(read_log(folder / "log.csv")[0])
    assert len(graphs) == 1  # one for all steps
    # Four scales, raw and attended; the codes of two kinds of attention, guided, and four reconstructions each.
    assert graphs[0].count("cross_entropy") == 8
    assert graphs[0].count("mse_loss") == 12
    names = ("loss", "loss_segmentation", "loss_guidance", "loss_reconstruction")
    assert [results[1][n] for n in names] == pytest.approx([results[0][n] for n in names], rel=1e-5)
    assert results[0]["loss_guidance"] > 0
