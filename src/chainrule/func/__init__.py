"""Layer 5: function transforms, with PyTorch's names (``torch.func``): grad, vmap, jvp and what is made of them."""

from chainrule.func.batch import vmap
from chainrule.func.forward import jvp, linearize
from chainrule.func.reverse import grad, grad_and_value, hessian, jacfwd, jacrev, vjp

__all__ = ["grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize", "vjp", "vmap"]
