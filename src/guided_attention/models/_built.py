"""Networks that know what a builder made them from."""

from torch import nn

from guided_attention._checkpoints import ModelSettings

__all__ = ["BuiltModule"]


class BuiltModule(nn.Module):
    """The base of the networks that builders make.

    Attributes:
        settings: What a builder made the network from; None for a network built otherwise.
    """

    settings: ModelSettings | None

    def __init__(self) -> None:
        super().__init__()
        self.settings = None

    def _is_as_built(self) -> bool:
        """Whether the settings still tell what the network computes; asked by whoever stores them."""
        from guided_attention.models.pretrained import rebuildable  # noqa: PLC0415

        return rebuildable(self) is not None
