"""In which precision a training computes on a device, when nobody says so."""

import torch

from ..precision import cpu_bfloat16_is_fast


def best_training_dtype(device: torch.device) -> str:
    """ "bfloat16" where the device multiplies in it, else "float32"; the weights themselves are float32 either way.

    CUDA from compute capability 8.0 on, and processors with instructions for it (AVX512-BF16, AMX): elsewhere it is
    emulated and slower. float16 is not offered: its range would need the loss to be scaled.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float32"
    if device.type == "cpu":
        return "bfloat16" if cpu_bfloat16_is_fast() else "float32"
    return "float32"
