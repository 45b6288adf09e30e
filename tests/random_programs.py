"""Random programs: lists of steps on a pool of tensors, run by eager mode and by whatever is held to it.

Steps are arithmetic, shapes, reductions, views, writes through views, draws and products; all tensors of the pool have
one shape.
"""

import numpy as np
from hypothesis import strategies as st

import chainrule as cr

ROWS, COLUMNS = 3, 4
UNARY = ["neg", "sin", "tanh", "sigmoid", "exp", "abs", "relu", "square", "floor"]
BINARY = ["add", "sub", "mul", "maximum", "div", "where", "pow"]
SHAPES = ["transpose twice", "flip", "cat", "reshape", "slice", "gather"]
REDUCE = ["sum", "mean", "amax", "softmax", "cumsum", "logsumexp", "layer norm"]
PLACE = ["argmax", "one hot", "sort", "compare", "half", "double", "scatter_add", "tril", "pad", "stack", "any", "var"]
WRITE = ["add_", "row", "column", "mask", "copy", "view", "detach"]


def steps_of(names):
    """Steps of these kinds: a name, two places in the pool, a number."""
    return st.tuples(
        st.sampled_from(names), st.integers(0, 7), st.integers(0, 7), st.sampled_from([0.5, -1.25, 2.0, 3.0])
    )


STEP = steps_of(UNARY + BINARY + SHAPES + REDUCE + PLACE + WRITE + ["draw", "matmul"])


def apply_step(pool, step, writable):
    """One step; new tensors are added to the pool, which holds tensors of one shape only."""
    name, i, j, number = step
    x, y = pool[i % len(pool)], pool[j % len(pool)]
    out = None
    if name in UNARY:
        out = getattr(cr, name)(x * 0.5 if name == "exp" else x)
    elif name == "where":
        out = cr.where(x > y, x, number)
    elif name == "div":
        out = x / (y * y + 1.0)
    elif name == "pow":
        out = (x.abs() + 0.5) ** number
    elif name in BINARY:
        out = getattr(cr, name)(x, y)
    elif name == "transpose twice":
        out = (x.T * number).T
    elif name == "flip":
        out = cr.flip(x, (j % 2,))
    elif name == "cat":
        out = cr.cat([x[: j % 3], y[j % 3 :]])
    elif name == "reshape":
        out = (x.reshape(2, -1) + y.reshape(-1)[: x.numel() // 2]).reshape(x.shape)
    elif name == "slice":
        out = x[:, 1:2] * y
    elif name == "gather":
        out = x[cr.tensor([2, 0, j % 3, *range(3, x.shape[0])])]
    elif name in PLACE:
        out = place_step(name, x, y, j % 2, number)
    elif name in ("softmax", "cumsum"):
        out = getattr(cr, name)(x, j % 2)
    elif name == "layer norm":
        out = cr.nn.functional.layer_norm(x, x.shape[j % 2 :], y[0] if j % 2 else y, None, 0.5)
    elif name in REDUCE:
        out = getattr(cr, name)(x, j % 2, keepdim=True) + y
    elif name == "matmul":
        out = (x @ y.T) @ x * 0.1
    elif name == "draw":
        out = cr.rand(*x.shape) * x
    else:
        write_step(name, pool[writable[i % len(writable)]], y, j, number)
    if out is not None:
        pool.append(out.clamp(-1e3, 1e3))


def place_step(name, x, y, dim, number):
    """Steps with integers, other dtypes, positions and assembled results."""
    if name == "argmax":
        return x * x.argmax(dim, keepdim=True) + x.argmin(dim, keepdim=True)
    if name == "one hot":
        classes = (y.abs().clamp(0.0, 50.0) * 2).floor().clamp(0.0, 2.0).to(cr.int64)
        return (cr.nn.functional.one_hot(classes, x.shape[1]) * x.unsqueeze(1)).sum(2 - dim).sum(1, keepdim=True) + x[
            :, :1
        ] * y
    if name == "sort":
        return cr.sort(x, dim).values - y
    if name == "compare":
        return ((x > y).to(x.dtype) - (x <= number).to(cr.int32)) * y
    if name == "half":
        return x.to(cr.float16).to(x.dtype) + y
    if name == "double":
        return (x.to(cr.float64).exp().sum(dim, keepdim=True).log() * number).to(x.dtype) * y
    if name == "scatter_add":
        return x.scatter_add(dim, (cr.arange(x.numel()) * 5 % 3).reshape(x.shape), y)
    if name == "tril":
        return cr.tril(x, dim - 1) + cr.triu(y, dim)
    if name == "pad":
        return cr.nn.functional.pad(x[1:, 1:], (1, 0, 0, 1)) * y
    if name == "stack":
        return cr.stack([x, y], dim).reshape(-1, x.shape[1])[:: 2 - dim][: x.shape[0]] * number
    if name == "any":
        return cr.where((x > number).any(dim, keepdim=True), x, y)
    return x.var(dim, keepdim=True) * y - x.mean(dim, keepdim=True)


def write_step(name, target, y, j, number):
    with cr.no_grad():
        if name == "add_":
            target.add_(y * number)
        elif name == "row":
            target[j % target.shape[0]] = y[0]
        elif name == "column":
            target[:, 1:3] *= number
        elif name == "mask":
            target[target > 1.0] = number
        elif name == "copy":
            target.copy_(y)
        elif name == "view":
            target.T[j % target.shape[1]].sub_(y[:, 0])
        else:
            target.detach().mul_(0.5)


def make(seed, shape=(ROWS, COLUMNS)):
    """An argument, a buffer and a weight; ``shape`` has at least three rows and an even number of elements."""
    rng = np.random.default_rng(seed)
    x, buffer, w = (cr.from_numpy(rng.standard_normal(shape).astype(np.float32)) for _ in range(3))
    return x, buffer, w


def program_of(steps, buffer, view, w):
    def run(x):
        local = cr.zeros(*w.shape)
        pool = [x, buffer, local, w, view.reshape(1, -1) * 1.0 + x]
        for step in steps:
            apply_step(pool, step, writable=(0, 1, 2))
        return pool[-1], buffer * 1.0, local, view * 2.0

    return run
