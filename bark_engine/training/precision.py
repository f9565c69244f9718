"""In which precision a training computes on a device, when nobody says so."""

import torch


def best_training_dtype(device: torch.device) -> str:
    """ "bfloat16" where the device multiplies in it, else "float32"; the weights themselves are float32 either way.

    CUDA from compute capability 8.0 on, and processors with instructions for it (AVX512-BF16, AMX): elsewhere it is
    emulated and slower. float16 is not offered: its range would need the loss to be scaled.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float32"
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private; absent from older versions
        if any(getattr(torch.cpu, name, bool)() for name in checks):
            return "bfloat16"
    return "float32"
