"""JPEG files decoded by torchvision: by libjpeg-turbo on a CPU, by NVJPEG on a GPU.

Decoders differ in their inverse transform and in how they enlarge the colour channels, so values
differ by a few levels from Pillow's: it is in the fingerprint.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from torchvision.io import ImageReadMode

from evalkit.core.errors import DataError


def decode_jpeg(data: bytes, device: str, *, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a JPEG file on a device.

    Args:
        data: The file's content, for which `evalkit.core.pixels.is_plain_jpeg` holds.
        device: A torch device.
        name: The image's name in errors.

    Raises:
        DataError: The file is corrupt.
    """
    content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    mode = ImageReadMode.RGB.value
    # torchvision's functions around these operators warn at each call that TorchCodec follows them
    try:
        if device.startswith("cuda"):
            image = torch.ops.image.decode_jpegs_cuda([content], mode, torch.device(device))[0]
        else:
            image = torch.ops.image.decode_jpeg(content, mode, False)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(
            f"{name}: can't be decoded on {device} ({why}). Replace the file, or leave out --jpeg."
        ) from error
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
