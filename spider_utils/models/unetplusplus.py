"""U-Net++."""

from __future__ import annotations

import segmentation_models_pytorch as smp

from spider_utils.models.encoders import EncoderDecoder


class UNetPlusPlus(EncoderDecoder):
    """U-Net++ with an exchangeable encoder, from segmentation-models-pytorch.

    A U-Net whose skip connections are grids: between the encoder and the decoder lie further blocks, each of which takes all
    earlier blocks of its own size and the doubled block from one size deeper (section 2.1, equation 1 of 2018).

    As the library has it, and unlike the paper: the grid ends at half the image's size, from where a last block without
    skip doubles to the image's own, and only that block gives a prediction (no deep supervision, section 2.2). Blocks
    inside the grid are as wide as the encoder at their size, those at its lower edge have ``decoder_channels``.

    Args, Shape and Raises: see ``EncoderDecoder``.

    Reference:
        Zhou, Rahman Siddiquee, Tajbakhsh, Liang. UNet++: a nested U-Net architecture for medical image segmentation. DLMIA
        2018. doi:10.1007/978-3-030-00889-5_1; longer: UNet++: redesigning skip connections to exploit multiscale features in
        image segmentation. IEEE Transactions on Medical Imaging 39(6), 2020. doi:10.1109/TMI.2019.2959609
    """

    library_network = smp.UnetPlusPlus
