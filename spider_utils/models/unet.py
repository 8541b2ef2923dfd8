"""U-Net."""

from __future__ import annotations

import segmentation_models_pytorch as smp

from spider_utils.models.encoders import EncoderDecoder


class UNet(EncoderDecoder):
    """U-Net with an exchangeable encoder, from segmentation-models-pytorch.

    The encoder halves the image once a stage; the decoder doubles it again and joins it at each size with the encoder's
    features of that size.

    Args, Shape and Raises: see ``EncoderDecoder``.

    Reference:
        Ronneberger, Fischer, Brox. U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.
        doi:10.1007/978-3-319-24574-4_28
    """

    library_network = smp.Unet
