"""PyTorch's ``backends`` module, for programs that choose a device or set flags at run time."""

from __future__ import annotations


class _Backend:
    """An accelerator library that is not there; its flags may be set and have no effect."""

    deterministic = False
    benchmark = False
    enabled = False

    @staticmethod
    def is_available() -> bool:
        """Always False."""
        return False

    @staticmethod
    def is_built() -> bool:
        """Always False."""
        return False


mps, cudnn, cuda, mkldnn = _Backend(), _Backend(), _Backend(), _Backend()
