"""UNETR, a U-Net of volumes whose encoder is a transformer, from MONAI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from spider_utils.models.network import VolumeNetwork, whole_numbers

PATCH = 16  # voxels along each side of a patch, as published; MONAI's network has no other


class UNETR(VolumeNetwork):
    """A volume is cut into cubes of 16 voxels (patches), each becomes a token, and twelve transformer layers relate all tokens to
    all others; tokens after some of the layers are laid out as coarse volumes again and feed a U-Net's way up. The paper says
    after the third, sixth, ninth and twelfth; MONAI takes the fourth, seventh, tenth and last. The default is the configuration
    of `unetr`, which is that of the paper but for the size of volumes.

    Each place has a learned embedding, so the network takes volumes of one size only. MONAI's transformer layers carry a norm for
    cross-attention that this network never uses (18,432 of its 92,734,996 weights with 20 classes); it is left out here, so that
    every weight is trained.

    Args:
        in_channels: channels of the input volume.
        n_classes: output channels, background included.
        image_size: slices, rows and columns of a volume, each a multiple of 16.
        feature_size: channels of the finest features; coarser ones have 2, 4 and 8 times as many.
        hidden_size: numbers of a token.
        mlp_dim: width of the two-layer perceptron in each transformer layer.
        num_heads: attention heads of a layer, each with ``hidden_size / num_heads`` numbers of a token.
        norm: "instance" or "batch": of the convolutional blocks.
        residual: whether these blocks have a shortcut.
        dropout: rate, in the transformer.

    Shape:
        float ``(batch, in_channels, slices, rows, columns)`` -> logits ``(batch, n_classes, slices, rows, columns)``, of
        ``image_size``.

    Raises:
        ValueError: an option has a value that cannot be; the message says which can.

    Reference:
        Hatamizadeh et al. UNETR: transformers for 3D medical image segmentation. WACV 2022. arXiv:2103.10504.
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        image_size: Sequence[int] = (32, 128, 128),
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        norm: str = "instance",
        residual: bool = True,
        dropout: float = 0.0,
    ):
        size = whole_numbers("image_size", image_size, 3, 3)
        if any(side % PATCH for side in size):
            fitting = [-(-side // PATCH) * PATCH for side in size]
            raise ValueError(f"image_size must be multiples of {PATCH}, the side of a patch, such as {fitting}, not {list(size)}")
        for name, value in (("feature_size", feature_size), ("mlp_dim", mlp_dim)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
        whole_numbers("hidden_size and num_heads", (hidden_size, num_heads), 2, 2)
        if hidden_size % num_heads:
            nearest = max(1, round(hidden_size / num_heads)) * num_heads
            raise ValueError(f"hidden_size must be a multiple of num_heads ({num_heads}), such as {nearest}, not {hidden_size}")
        if norm not in ("instance", "batch"):
            raise ValueError(f"norm must be 'instance' or 'batch', not {norm!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {dropout}")
        from monai.networks.nets.unetr import UNETR as MonaiUNETR  # noqa: N811 - takes seconds

        body = MonaiUNETR(
            in_channels,
            n_classes,
            size,
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            norm_name=norm,
            res_block=residual,
            dropout_rate=dropout,
        )
        for block in body.vit.blocks:
            for unused in ("norm_cross_attn", "cross_attn"):
                if hasattr(block, unused):
                    setattr(block, unused, nn.Identity())
        super().__init__(body, in_channels, stride=PATCH)
        self.image_size = size

    @property
    def tokens(self) -> tuple[int, int, int]:
        """Patches along slices, rows and columns."""
        return tuple(side // PATCH for side in self.image_size)

    @property
    def transformer(self) -> nn.Module:
        """As SegmentationNetwork says."""
        return self.body.vit

    def start_from_shares(self, shares: Sequence[float]) -> None:
        """Let the network begin with "every voxel is as likely of a class as such voxels are frequent".

        With random biases a short training is over before the last layer has learned that nearly everything is background.

        Args:
            shares: of the classes among training voxels; a class without any is given one voxel in ten million.

        Reference:
            Lin, Goyal, Girshick, He, Dollar. Focal loss for dense object detection. ICCV 2017, section 3.3 (for two classes).
        """
        with torch.no_grad():
            bias = self.body.out.conv.conv.bias
            bias.copy_(torch.tensor(shares, dtype=bias.dtype).clamp(min=1e-7).log())

    def attention(self, images: torch.Tensor) -> torch.Tensor:
        """What every token attends to, in every layer and head, in evaluation mode.

        Args:
            images: as for the network, on its device.

        Returns:
            float32 (layers, batch, heads, tokens, tokens) on the CPU; the last axis sums to 1. Token t lies at
            ``numpy.unravel_index(t, model.tokens)``.
        """
        training = self.training
        try:
            with _kept_attention(self.body.vit.blocks) as layers, torch.no_grad():
                self.eval()(images)
                return torch.stack([layer.att_mat.float().cpu() for layer in layers])
        finally:
            self.train(training)


@contextmanager
def _kept_attention(blocks: nn.ModuleList) -> Iterator[list[nn.Module]]:
    """The attention parts of transformer layers, which keep their matrix meanwhile."""
    layers = [block.attn for block in blocks]
    for layer in layers:
        layer.save_attn = True
    try:
        yield layers
    finally:
        for layer in layers:
            layer.save_attn, layer.att_mat = False, torch.Tensor()
