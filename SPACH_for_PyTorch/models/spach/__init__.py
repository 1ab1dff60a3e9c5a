"""SPACH: one framework for convolution, attention and MLP networks."""

from .spach import Spach
from .spach_ms import SpachMS
