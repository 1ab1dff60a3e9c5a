"""The models of microsoft/SPACH: SPACH (single- and multi-stage), sMLPNet, ShiftViT."""

from .registry import create_model
