"""Layer 5: derivatives of recorded computations, with PyTorch's names."""

from chainrule.autograd import functional
from chainrule.autograd.anomaly_mode import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from chainrule.autograd.context import FunctionCtx
from chainrule.autograd.function import Function, once_differentiable
from chainrule.autograd.grad import backward, grad
from chainrule.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from chainrule.ir.state import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from chainrule.tensors.tensor import Tensor as Variable

__all__ = [
    "Function",
    "FunctionCtx",
    "GradcheckError",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "no_grad",
    "once_differentiable",
    "set_detect_anomaly",
    "set_grad_enabled",
]
