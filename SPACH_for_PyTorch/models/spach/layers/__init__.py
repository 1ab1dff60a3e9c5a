"""The parts of a SPACH network: the stem, and the functions that mix places and channels."""

from .channel_func import ChannelMLP
from .spatial_func import DWConv, make_spatial_func
from .stem import make_stem
