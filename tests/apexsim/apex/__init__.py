"""A stand-in for Ascend's apex, for tests: apex.amp on any device, and apex.optimizers. See ../README.md."""

from . import amp
