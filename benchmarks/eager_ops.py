"""What one op costs on tiny tensors, where the library and not the arithmetic takes the time.

Forward only, but with history: all float operands require a gradient, so both libraries record the op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import chainrule
from benchmarks import _harness, _peers

Build = Callable[..., Callable[[], Any]]

#: by group and name: from a library and its tensors a, b (4, 4), c (4,) and class indices t (4,), a function to time
GROUPS: dict[str, dict[str, Build]] = {
    "arithmetic": {
        "a + b": lambda lib, a, b, c, t: lambda: a + b,
        "a * b": lambda lib, a, b, c, t: lambda: a * b,
        "a @ b": lambda lib, a, b, c, t: lambda: a @ b,
        "a.sin()": lambda lib, a, b, c, t: lambda: a.sin(),
        "a.tanh()": lambda lib, a, b, c, t: lambda: a.tanh(),
        "a.relu()": lambda lib, a, b, c, t: lambda: a.relu(),
    },
    "shapes and sums": {
        "a.sum()": lambda lib, a, b, c, t: lambda: a.sum(),
        "a.mean()": lambda lib, a, b, c, t: lambda: a.mean(),
        "a.reshape(2, 8)": lambda lib, a, b, c, t: lambda: a.reshape(2, 8),
        "a.T": lambda lib, a, b, c, t: lambda: a.T,
        "a[1]": lambda lib, a, b, c, t: lambda: a[1],
    },
    "neural": {
        "a.softmax(1)": lambda lib, a, b, c, t: lambda: a.softmax(1),
        "F.linear(a, b, c)": lambda lib, a, b, c, t: _bind(lib.nn.functional.linear, a, b, c),
        "F.cross_entropy(a, t)": lambda lib, a, b, c, t: _bind(lib.nn.functional.cross_entropy, a, t),
    },
}


def _bind(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: function(*args)


def _operands(lib: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    floats = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 4), (4, 4), (4,))]
    return (*(lib.tensor(x, requires_grad=True) for x in floats), lib.tensor([0, 3, 1, 2]))


def cases(ops: dict[str, Build], torch: Any) -> Iterator[_harness.Case]:
    """One case per op, each contender with tensors of its own."""
    for name, build in ops.items():
        contenders = {label: build(lib, *_operands(lib)) for label, lib in (("chainrule", chainrule), ("torch", torch))}
        yield _harness.Case(name, contenders)


def run(options: _harness.Options) -> None:
    """Prints one table per group of ops, and the geometric means of the ratios."""
    torch = _peers.load_torch(options.threads)
    means = {}
    for title, ops in GROUPS.items():
        found = _harness.compare(title, cases(ops, torch), options)
        means[title] = [by_peer["torch"].value for by_peer in found.values()]
        print()
    means["all"] = [value for values in means.values() for value in values]
    rows = [[title, str(len(values)), f"{_harness.geometric_mean(values):.2f}"] for title, values in means.items()]
    print(_harness.table(["geometric mean of the ratios", "ops", "chainrule / torch"], rows))
