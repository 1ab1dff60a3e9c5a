"""Mixing of channels (upstream: models/spach/layers/channel_func.py)."""

import torch.nn as nn


class ChannelMLP(nn.Module):
    """Tokens (B, N, C) -> (B, N, C): two linear layers over the last axis, GELU between; dropout after each."""

    def __init__(self, in_features, hidden_features, drop=0.0):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_features, in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        x = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(x))
