"""Stand-in for `comfy.model_patcher`."""

import torch
from torch import nn


class ModelPatcher:
    """Owns a module and moves it; sets `device` on it as the real one does."""

    def __init__(
        self,
        model: nn.Module,
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
        weight_inplace_update: bool = False,
    ):
        self.model = model
        self.load_device = load_device
        self.offload_device = offload_device
        self.size = size
        model.device = offload_device

    def model_size(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.model.state_dict().values())

    def load(self) -> None:
        self.model.to(self.load_device)
        self.model.device = self.load_device

    def detach(self, unpatch_all: bool = True) -> nn.Module:
        self.model.to(self.offload_device)
        self.model.device = self.offload_device
        return self.model
