"""Layer 5: derivatives of recorded computations, with PyTorch's names."""

from chainrule.autograd.grad import backward, grad
from chainrule.ir.state import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = ["backward", "enable_grad", "grad", "inference_mode", "no_grad", "set_grad_enabled"]
