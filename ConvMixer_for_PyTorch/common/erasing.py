"""Random erasing of a whole batch on a card."""

from typing import Any, List, Tuple

import torch
from timm.data.random_erasing import RandomErasing

Box = Tuple[slice, slice]  # rows and columns of an image


class Recorder(List[Box]):
    """Stands for an image, and notes which part of it is written."""

    def __setitem__(self, where: Any, pixels: Any) -> None:
        self.append(where[1:])


class BatchErasing(RandomErasing):
    """timm's, with the same boxes: three kernels for all images, where timm takes three for each that it erases.

    upload(tensor): -> the tensor on the card, without waiting for it.
    """

    def __init__(self, upload: Any, probability: float, mode: str, max_count: int):
        super().__init__(probability, mode='const', max_count=max_count, device='cpu')  # draws boxes, and no pixels
        self.filling, self.upload = mode, upload

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same"""
        drawn = []
        for _ in range(len(images)):
            drawn.append(Recorder())
            self._erase(drawn[-1], *images.shape[1:], None)
        for number in range(self.max_count):
            inside = self.inside([each[number] if number < len(each) else None for each in drawn], images)
            images = torch.where(inside, self.pixels(images), images)
        return images

    def inside(self, boxes: List[Any], images: torch.Tensor) -> torch.Tensor:
        """-> (N, 1, H, W): whether a pixel is in the box of its image"""
        high = images.shape[2]
        lines = torch.zeros(len(images), high + images.shape[3], dtype=torch.bool)
        for line, box in zip(lines.numpy(), boxes):
            if box is not None:
                line[:high][box[0]] = line[high:][box[1]] = True
        lines = self.upload(lines)[:, None]
        return lines[:, :, :high, None] & lines[:, :, None, high:]

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        if self.filling == 'pixel':
            return torch.empty_like(images).normal_()
        if self.filling == 'rand':
            return images.new_empty(images.shape[:2] + (1, 1)).normal_()
        return torch.zeros_like(images)
