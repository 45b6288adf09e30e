"""What an op is: one declaration that every mode reads, and the registry of all of them.

Three kinds cover nearly everything (see ARCHITECTURE.md, "Adding an op"):

* :class:`Elementwise` gives per input the *action* of its partial derivative on ``g``, linear in ``g``. With ``g`` a
  tangent that is the JVP, with ``g`` a cotangent the VJP, with ``g = 1`` the formula of the partial.
* :class:`Multilinear` ops are linear in each differentiable argument: the JVP is the op itself, once per argument, and
  the VJP is one transpose per argument.
* :class:`General` ops are classes whose methods always come in the same order: ``kernel``, ``infer``, ``vjp``, ``jvp``,
  ``batch``. A method that was not written raises an error that names it.

Kernels compute with NumPy and are at once the reference for every other backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.errors import MissingRuleError
from chainrule.core.shapes import Shape
from chainrule.ir import formula
from chainrule.ir.namespace import NUMPY

Rule = Callable[..., Any]


class Aval(NamedTuple):
    """What is known of a value before it is computed: shape and NumPy dtype."""

    shape: Shape
    dtype: np.dtype[Any]


class Sample(NamedTuple):
    """A test input of an op: functions of a random generator that make the arrays, and the static parameters."""

    arrays: tuple[Callable[[np.random.Generator], np.ndarray[Any, Any]], ...]
    params: dict[str, Any] = {}  # noqa: RUF012 - a field of a named tuple, and never written


class Op:
    """One operation. Subclasses say how it is differentiated and batched.

    Attributes:
        name: the name in every math namespace.
        kernel: the value, with NumPy, called as ``kernel(*arrays, **params)``.
        params: names of the static parameters, in order.
        arity: number of array arguments; None if any number is taken.
        differentiable: per array argument, whether a derivative flows through it.
        doc: one line of documentation with the formula.
        samples: inputs from which tests are generated.
        special: input tuples of Python numbers with the value expected there.
        reference: an independent oracle for the value, ``reference(*arrays, **params)``.
        outputs: number of results (a tuple of them if not 1).
        keeps_inputs, keeps_output: what a general op needs in its backward pass; one answer, or one per input.
    """

    kind = "general"
    name: str
    kernel: Callable[..., Any]
    params: tuple[str, ...] = ()
    arity: int | None = 1
    differentiable: tuple[bool, ...] = (True,)
    doc: str = ""
    samples: Sequence[Sample] = ()
    special: Sequence[tuple[tuple[float, ...], float]] = ()
    reference: Callable[..., Any] | None = None
    outputs: int = 1
    keeps_inputs: bool | tuple[bool, ...] = True
    keeps_output: bool = False
    is_view: bool = False
    random: bool = False
    residual: bool = False
    #: the same value for tensors outside of any program, where there is a quicker way; see NOTE [native kernels]
    eager: Callable[..., Any] | None = None
    #: the backward rule on raw arrays; the tape fills it in at first use
    back: Any = None

    def infer(self, *avals: Aval, **params: Any) -> Any:
        """Shape and dtype of the result (a tuple of :class:`Aval` for several results)."""
        raise MissingRuleError(f"op {self.name!r} has no shape rule: write `infer`")

    def through(self, *xs: Any, **params: Any) -> Any:
        """The result as an ordinary computation on tensors; asked of an op of kind "control" where nothing captures."""
        raise MissingRuleError(f"op {self.name!r} is no loop and no branch")

    def expand(self, xs: tuple[Any, ...]) -> Any:
        """The result by other ops; asked of an op of kind "function" by levels that write ops down."""
        raise MissingRuleError(f"op {self.name!r} is a primitive and is not made of other ops")

    def flows(self, index: int) -> bool:
        """Whether argument ``index`` is differentiable."""
        d = self.differentiable
        return d[index] if index < len(d) else d[-1] if self.arity is None else False

    def __repr__(self) -> str:
        return f"<{self.kind} op {self.name}>"


def saved_for(op: Op, needed: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
    """Which inputs, and whether the output, the tape keeps when exactly the ``needed`` inputs require gradients."""
    n = len(needed)
    if isinstance(op, Elementwise):
        wanted = [use for use, need in zip(op.uses, needed, strict=True) if need and use is not None]
        return tuple(any(u[0][j] for u in wanted) for j in range(n)), any(u[1] for u in wanted)
    if isinstance(op, Multilinear):
        if op.saves is None:
            if op.joint:
                return tuple(not op.flows(j) for j in range(n)), False
            return tuple(any(needed[i] and i != j for i in range(n)) for j in range(n)), False
        kept = {j for i in range(n) if needed[i] for j in op.saves[min(i, len(op.saves) - 1)]} if op.saves else set()
        return tuple(j in kept for j in range(n)), False
    keep = op.keeps_inputs
    return keep if isinstance(keep, tuple) else (keep,) * n, op.keeps_output


class Elementwise(Op):
    """An op that works on each element alone.

    ``partials[i](m, g, y, *x)`` is the action of dy/dx_i on ``g``; None where no derivative flows. ``promotes`` says
    what public functions convert operands to: "same" (the common dtype), "float" (integers become the default dtype).
    ``result`` is "same" or "bool".
    """

    kind = "elementwise"

    def __init__(
        self,
        name: str,
        kernel: Callable[..., Any],
        *partials: Rule | None,
        doc: str,
        arity: int | None = None,
        promotes: str = "same",
        result: str = "same",
        samples: Sequence[Sample] = (),
        special: Sequence[tuple[tuple[float, ...], float]] = (),
        reference: Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.kernel, self.doc = name, kernel, doc
        self.arity = n = arity if arity is not None else len(partials)
        self.partials: tuple[Rule | None, ...] = partials or (None,) * n
        self.differentiable = tuple(p is not None for p in self.partials)
        self.promotes, self.result = promotes, result
        self.samples, self.special, self.reference = samples, special, reference
        names = "xyz"[:n] if n > 1 else "x"
        xs = [formula.name(c) for c in names]
        out = formula.name("out")
        self.formulas: list[str | None] = []
        self.uses: list[tuple[tuple[bool, ...], bool] | None] = []
        for p in self.partials:
            if p is None:
                self.formulas.append(None)
                self.uses.append(None)
                continue
            read = formula.as_formula(p(formula.FORMULA, formula.name("g"), out, *xs))
            self.formulas.append(read.text)
            self.uses.append((tuple(c in read.used for c in names), "out" in read.used))

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """The operands' own shape (broadcasting is an explicit op) and dtype."""
        kind = np.dtype(bool) if self.result == "bool" else avals[-1].dtype
        return Aval(avals[0].shape, kind)


class Multilinear(Op):
    """An op that is linear in each argument that has a transpose.

    ``transposes[i](m, g, avals, *x, **params)`` maps the cotangent of the output to that of input i, and may read the
    other inputs. ``infer(*avals, **params)`` gives shape and dtype. ``batch(m, size, x, batched, **params)`` computes
    with a batch axis at the front of the inputs for which ``batched`` holds and returns a result with one in front.
    ``saves[i]`` names the inputs that transpose i reads; None: all but the i-th. A ``joint`` op is linear in all its
    differentiable arguments together (joining, writing): its JVP is the op on all tangents at once, and its transposes
    read only the arguments that are not differentiable. A ``variadic`` op has one transpose that serves every
    argument and is told which by ``position``.
    """

    kind = "multilinear"

    def __init__(
        self,
        name: str,
        kernel: Callable[..., Any],
        *transposes: Rule | None,
        infer: Callable[..., Aval],
        batch: Rule,
        doc: str,
        params: tuple[str, ...] = (),
        saves: Sequence[tuple[int, ...]] | None = None,
        variadic: bool = False,
        joint: bool = False,
        is_view: bool = False,
        samples: Sequence[Sample] = (),
        reference: Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.kernel, self.doc, self.params = name, kernel, doc, params
        self.transposes, self.variadic, self.joint = transposes, variadic, joint
        self.arity = None if variadic else len(transposes)
        self.differentiable = tuple(t is not None for t in transposes)
        self.infer_rule, self.batch, self.saves, self.is_view = infer, batch, saves, is_view
        self.samples, self.reference = samples, reference

    def infer(self, *avals: Aval, **params: Any) -> Aval:
        """Shape and dtype by the declared rule."""
        return self.infer_rule(*avals, **params)

    def transpose(self, index: int, m: Any, g: Any, avals: Sequence[Aval], xs: Sequence[Any], params: Any) -> Any:
        """The cotangent of input ``index`` from that of the output."""
        if self.variadic:
            return self.transposes[0](m, g, avals, *xs, position=index, **params)  # type: ignore[misc]
        return self.transposes[index](m, g, avals, *xs, **params)  # type: ignore[misc]


class General(Op):
    """An op written as a class; instantiate it once to register it.

    ``residual``: if true, ``kernel`` returns ``(result, residual)`` and ``vjp`` receives the residual as ``r`` when it
    runs on raw arrays, and None when it is itself to be differentiated (then it must recompute from the inputs).
    """

    kind = "general"

    def vjp(self, m: Any, g: Any, y: Any, r: Any, needs: Sequence[bool], *xs: Any, **params: Any) -> tuple[Any, ...]:
        """Cotangents of the inputs that ``needs`` marks (None elsewhere) from ``g``, that of the result.

        For several results ``g`` is a tuple, None where a result was not used.
        """
        raise MissingRuleError(f"op {self.name!r} has no reverse rule: write `vjp` in its class")

    def jvp(self, m: Any, ts: Sequence[Any], y: Any, *xs: Any, **params: Any) -> Any:
        """Tangent of the result from the tangents of the inputs (None where an input has none)."""
        raise MissingRuleError(f"op {self.name!r} has no forward rule: write `jvp` in its class")

    def batch(self, m: Any, size: int, xs: Sequence[Any], batched: Sequence[bool], **params: Any) -> Any:
        """The result with a batch axis in front, from inputs of which those with ``batched`` have one in front."""
        raise MissingRuleError(f"op {self.name!r} has no batching rule: write `batch` in its class")


REGISTRY: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Enter an op in the registry and its kernel in the NumPy namespace; raises ``ValueError`` for a second one."""
    if op.name in REGISTRY:
        raise ValueError(f"an op called {op.name!r} is declared already")
    REGISTRY[op.name] = op
    kernel = op.kernel
    if op.residual:

        def value(*args: Any, **params: Any) -> Any:
            return kernel(*args, **params)[0]

        setattr(NUMPY, op.name, value)
    else:
        setattr(NUMPY, op.name, kernel)
    return op


def elementwise(name: str, kernel: Callable[..., Any], *partials: Rule | None, **rest: Any) -> Elementwise:
    """Declare an elementwise op; see :class:`Elementwise`."""
    op = Elementwise(name, kernel, *partials, **rest)
    register(op)
    return op


def multilinear(name: str, kernel: Callable[..., Any], *transposes: Rule | None, **rest: Any) -> Multilinear:
    """Declare a multilinear op; see :class:`Multilinear`."""
    op = Multilinear(name, kernel, *transposes, **rest)
    register(op)
    return op
