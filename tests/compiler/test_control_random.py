"""Random steps with loops and branches inside loops: eager mode, captures, transforms and machine code agree."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import capture
from chainrule.ir.graph import verify
from control_cases import agree, array

func = cr.func
DRAWS = 4


class Step:
    """A random function of a carry and a slice, both of three elements; deeper ones hold loops and branches."""

    def __init__(self, rng, depth):
        self.rows = [tuple(rng.integers(0, n) for n in (11 if depth else 9, 100, 4)) for _ in range(rng.integers(1, 5))]
        self.inner = [Step(rng, depth - 1) for _ in range(4)] if depth else []
        self.matrix = cr.from_numpy(rng.standard_normal((3, 3)) * 0.5)
        self.slices = cr.from_numpy(rng.standard_normal((rng.integers(1, 4), 3)))
        self.reverse = bool(rng.integers(0, 2))
        self.limit = float(rng.standard_normal() * 0.3)

    def __call__(self, carry, x, outside):
        values = [carry, x, outside]
        for kind, a, j in self.rows:
            values.append(self.row(kind, a, j, values[a % len(values)], values[a // 7 % len(values)], outside))
        return cr.tanh(values[-1])

    def row(self, kind, a, j, s, t, outside):
        if kind < 9:
            return (
                lambda: cr.sin(s) * t,
                lambda: cr.tanh(s @ self.matrix) + t,
                lambda: s * s.mean(),
                lambda: cr.maximum(s, t),
                lambda: cr.where(s > self.limit, s, t * 0.5),
                lambda: s[[2, 0, 1]] * 0.7,
                lambda: cr.cat([s[:1], t[1:]]).flip(0),
                lambda: s.cumsum(0) * 0.3,
                lambda: s / (1 + t * t),
            )[kind]()
        first, second = self.inner[j], self.inner[(j + 1) % 4]
        if kind == 9:

            def step(c, y):
                c = first(c, y, outside)
                return c, c * y

            last, ys = cr.scan(step, s, self.slices * t if a % 2 else self.slices, reverse=self.reverse)
            return last + ys.sum(0)
        return cr.cond(
            s.sum() > self.limit, lambda u, v: first(u, v, outside), lambda u, v: second(v, u, outside), s, t
        )


@pytest.mark.parametrize("seed", range(DRAWS))
def test_random_loops(seed):
    rng = np.random.default_rng(seed)
    x, direction, batch = array(3, seed=seed), array(3, seed=seed + 100), array(3, 3, seed=seed + 200)
    xs = array(int(rng.integers(0, 5)), 3, seed=seed + 300)
    step, reverse = Step(rng, 2), bool(rng.integers(0, 2))

    def f(h):
        last, ys = cr.scan(lambda c, v: (step(c, v, h * 0.5), c * v), h, xs * h, reverse=reverse)
        return (last * last).sum() + (ys * h).sum()

    transformed = {
        "f": f,
        "grad": func.grad(f),
        "grad of grad": func.grad(lambda h: (func.grad(f)(h) * direction).sum()),
        "grad of jvp": func.grad(lambda h: func.jvp(f, (h,), (direction,))[1]),
        "vmap of grad": lambda h: func.vmap(func.grad(f))(batch * h),
    }
    for name, g in transformed.items():
        program = capture(g, x)
        verify(program.graph)
        wanted = g(x)
        agree(program(x), wanted)
        if name != "grad of jvp":
            compiled = cr.compile(lambda h, g=g: g(h), verify="always")
            np.testing.assert_allclose(compiled(x).numpy(), wanted.numpy(), rtol=1e-8, atol=1e-10)
            assert not any(b.native.plan.calls for b in compiled.bound)
