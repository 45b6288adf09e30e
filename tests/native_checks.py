"""Running a function as machine code under the strictest check there is, and with all of it divided among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler import capture, gathers, zeros
from chainrule.compiler.llvm import program as machine_code
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.program import Program
from chainrule.compiler.threads import Choice
from chainrule.compiler.verify import verify_program


def arrays_of(program: Program, args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """What the inputs of a program's graph are read from, as arrays."""
    return [np.asarray(s.tensor(list(args))._d) for s in program.sources]


def same(a: Any, b: Any) -> bool:
    """Whether two arrays have one type and the same numbers, NaN equal to itself."""
    x, y = np.asarray(a), np.asarray(b)
    return x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")


def checked(
    function: Callable[..., Any], *args: cr.Tensor, target: Target | None = None, draws: Sequence[Sequence[Any]] = ()
) -> NativeProgram:
    """Capture, compile, run each kernel against its reference with all memory watched, and the whole twice.

    The kernels one by one and all of them in one call have to give the same bits. ``draws`` are further arguments.
    """
    program = capture(function, *args)
    native = NativeProgram(program.graph, target, data=arrays_of(program, args))
    for given in (args, *draws):
        arrays = arrays_of(program, given)
        kept = [a.copy() for a in arrays]
        stepwise = verify_program(native, arrays, strict=True)
        for _ in range(2):
            for a, b in zip(native(arrays), stepwise, strict=True):
                assert same(a, b)
        for a, b in zip(arrays, kept, strict=True):
            assert same(a, b), "an input was written"
    return native


@contextmanager
def everything_divided(columns: int | None = None) -> Iterator[None]:
    """Threads divide all that can be, however little work there is, and products look up rows and zeros of any data.

    ``columns``: which of the products go by columns is a random choice, from this seed.
    """
    with pytest.MonkeyPatch.context() as m:
        for name in ("SHARED_LOOP", "SHARED_PRODUCT", "SHARED_PROGRAM"):
            m.setattr(machine_code, name, 0.0)
        m.setattr(gathers, "LEAST", 0)
        for name in ("LEAST_ACROSS", "LEAST_ALONG"):
            m.setattr(zeros, name, 1)
        m.setattr("chainrule.compiler.native.fingerprint", lambda plan: None)
        m.setattr("chainrule.compiler.native.available_cores", lambda: 4)
        m.setattr(Choice, "next", lambda self: (True, False))
        if columns is not None:
            rng = np.random.default_rng(columns)

            def by_columns(kernels: Any, shared: Any, products: Any, target: Any) -> set[int]:
                free = [n for n, (spec, plan) in products.items() if plan.by_columns and not spec.batch]
                return {n for n in free if rng.random() < 0.5}

            m.setattr(machine_code, "by_columns", by_columns)
        before = cr.get_num_threads()
        try:
            yield
        finally:
            cr.set_num_threads(before)


def bits(tensors: Sequence[cr.Tensor]) -> list[bytes]:
    """The bytes of some tensors."""
    return [t.numpy(force=True).tobytes() for t in tensors]


def trained(
    x: cr.Tensor, batch: int, steps: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[np.ndarray[Any, Any]], Any]:
    """The weights of a small classifier after some compiled steps that gather their batches, and the compiled step."""
    monkeypatch.setattr("chainrule.compiler.native.available_cores", lambda: threads)
    monkeypatch.setattr(Choice, "next", lambda self: (True, False))
    cr.set_num_threads(threads)
    cr.manual_seed(0)
    rows, columns = x.shape
    model = nn.Sequential(nn.Linear(columns, 70), nn.ReLU(), nn.Linear(70, 10))
    optimizer = cr.optim.Adam(model.parameters(), lr=0.01)
    labels = cr.from_numpy(np.random.default_rng(3).integers(0, 10, rows))

    @cr.compile
    def step(chosen: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        return loss

    for seed in range(steps):
        step(cr.from_numpy(np.random.default_rng(seed).permutation(rows)[:batch]))
    return [p.detach().numpy().copy() for p in model.parameters()], step
