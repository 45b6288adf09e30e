"""Layer 5: function transforms, with PyTorch's names (``torch.func``): grad, vmap, jvp and what is made of them."""

from chainrule.func.batch import vmap
from chainrule.func.forward import jvp
from chainrule.func.reverse import grad, grad_and_value, hessian, jacfwd, jacrev, linearize, vjp
from chainrule.func.stateless import functional_call, stack_module_state

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "stack_module_state",
    "vjp",
    "vmap",
]
