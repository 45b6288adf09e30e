"""Image data sets under torchvision's name; they live in ``chainrule.data``."""

from chainrule.data.digits import Digits
from chainrule.data.mnist import MNIST, FashionMNIST

__all__ = ["MNIST", "Digits", "FashionMNIST"]
