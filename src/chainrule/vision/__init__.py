"""Images: ``datasets`` and ``transforms``, with torchvision's names."""

from chainrule.vision import datasets, transforms

__all__ = ["datasets", "transforms"]
