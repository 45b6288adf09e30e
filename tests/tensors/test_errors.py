"""Mistakes that newcomers make: what happened, what was expected and got, the user's line, the likely fix."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


def leaf():
    return cr.ones(2, requires_grad=True)


#: the mistake -> kind of error, and words that its message must contain, in order
MISTAKES = {
    "shapes in +": (
        lambda: cr.ones(2, 3) + cr.ones(4),
        RuntimeError,
        ["broadcast", "(2, 3) and (4,)", "axis -1 has 3 and 4", "unsqueeze"],
    ),
    "shapes in @": (
        lambda: cr.ones(2, 3) @ cr.ones(4, 5),
        RuntimeError,
        ["inner sizes differ, 3 and 4", "(2, 3) and (4, 5)", "transpose"],
    ),
    "vectors in @": (lambda: cr.ones(3) @ cr.ones(4), RuntimeError, ["inner sizes differ"]),
    "a number in @": (lambda: cr.ones(3) @ 2, TypeError, ["matmul needs two tensors", "int", "use *"]),
    "dtypes in @": (
        lambda: cr.tensor([1, 2]) @ cr.ones(2),
        RuntimeError,
        ["one dtype", "int64 and chainrule.float32", "convert"],
    ),
    "float64 array and float32 tensor in @": (
        lambda: cr.ones(2) @ np.ones(2),
        RuntimeError,
        ["one dtype", "float64", "convert"],
    ),
    "an array into a layer": (
        lambda: nn.Linear(2, 2)(np.ones(2)),
        TypeError,
        ["needs a tensor", "ndarray", ".float()"],
    ),
    "integers into a layer": (lambda: nn.Linear(2, 2)(cr.tensor([1, 2])), RuntimeError, ["one dtype", "int64"]),
    "sizes of a layer": (lambda: nn.Linear(3, 2)(cr.ones(5, 4)), RuntimeError, ["4 and 3", "layer sizes"]),
    "float index": (lambda: cr.ones(2)[1.5], IndexError, ["float", "integers, slices"]),
    "float index tensor": (
        lambda: cr.ones(2)[cr.tensor([0.0])],
        IndexError,
        ["integers or booleans", "float32", ".long()"],
    ),
    "index out of range": (lambda: cr.ones(3)[7], IndexError, ["index 7 is out of range", "size 3", "-3 to 2"]),
    "index tensor out of range": (lambda: cr.ones(3)[cr.tensor([7])], IndexError, ["index 7 is out of range"]),
    "too many indices": (lambda: cr.ones(3)[0, 1], IndexError, ["too many indices", "at most 1"]),
    "negative step": (lambda: cr.ones(3)[::-1], ValueError, ["positive step", "flip"]),
    "text index": (lambda: cr.ones(3)["a"], IndexError, ["str"]),
    "wrong mask": (lambda: cr.ones(3)[cr.tensor([True])], IndexError, ["mask", "(3,)", "(1,)"]),
    "backward of many": (lambda: (leaf() * 2).backward(), RuntimeError, ["scalar", "(2,)", ".sum()"]),
    "backward of nothing": (
        lambda: cr.ones(2).sum().backward(),
        RuntimeError,
        ["does not require a gradient", "requires_grad=True"],
    ),
    "item of many": (lambda: cr.ones(2).item(), RuntimeError, ["exactly one element", "(2,)", "tolist"]),
    "float of many": (lambda: float(cr.ones(2)), RuntimeError, ["exactly one element"]),
    "truth of many": (
        lambda: bool(cr.ones(2) > 0),
        RuntimeError,
        ["neither true nor false", "(2,)", ".any() or .all()"],
    ),
    "chained comparison": (lambda: 0 < cr.ones(2) < 2, RuntimeError, ["neither true nor false", "&"]),
    "in place on a leaf": (lambda: leaf().add_(1), RuntimeError, ["leaf", "no_grad", "clone()"]),
    "numpy with gradient": (lambda: leaf().numpy(), RuntimeError, ["history", ".detach().numpy()"]),
    "device cuda": (lambda: cr.ones(2, device="cuda"), RuntimeError, ["'cuda' is not available", "'cpu'"]),
    "moving to cuda": (lambda: cr.ones(2).cuda(), RuntimeError, ["'cuda' is not available"]),
    "unknown dtype": (lambda: cr.ones(2, dtype="flaot32"), TypeError, ["not a dtype", "did you mean 'float32'"]),
    "a dtype's name as device": (lambda: cr.ones(2).to("float64"), RuntimeError, ["chainrule.float64"]),
    "ragged list": (
        lambda: cr.tensor([[1, 2], [3]]),
        (TypeError, ValueError),
        ["cannot become a tensor", "equal lengths"],
    ),
    "text as data": (lambda: cr.tensor("abc"), TypeError, ["cannot become a tensor", "str"]),
    "None as data": (lambda: cr.tensor([1, None]), (TypeError, RuntimeError), ["cannot become a tensor"]),
    "gradient of integers": (
        lambda: cr.tensor([1, 2], requires_grad=True),
        RuntimeError,
        ["floating-point", "int64", ".float()"],
    ),
    "cat of other sizes": (lambda: cr.cat([cr.ones(2, 3), cr.ones(2, 4)]), RuntimeError, ["cat", "(2, 4)"]),
    "stack of other sizes": (lambda: cr.stack([cr.ones(2), cr.ones(3)]), RuntimeError, ["one shape", "(3,)"]),
    "view of another size": (lambda: cr.ones(2, 3).view(4), RuntimeError, ["6 elements", "product"]),
    "view that needs a copy": (lambda: cr.ones(2, 3).T.view(6), RuntimeError, ["needs a copy", ".reshape"]),
    "no such dimension": (lambda: cr.ones(2, 3).sum(5), IndexError, ["dimension out of range", "-2 to 1"]),
    "plus text": (lambda: cr.ones(2) + "a", TypeError, ["add", "str"]),
    "plus None": (lambda: cr.ones(2) + None, TypeError, ["add", "NoneType"]),
    "times a list": (lambda: cr.ones(2) * [1, 2], TypeError, ["mul", "list", "chainrule.tensor"]),
    "float into integers": (lambda: cr.tensor([1, 2]).add_(0.5), RuntimeError, ["float32 cannot be written", "int64"]),
    "mean of integers": (lambda: cr.tensor([1, 2]).mean(), RuntimeError, ["floating", "int64", ".float()"]),
    "minus a mask": (lambda: -cr.tensor([True]), RuntimeError, ["neg", "bool", "~"]),
    "masks subtracted": (lambda: cr.tensor([True]) - cr.tensor([True]), RuntimeError, ["sub", "bool", "^"]),
    "not of floats": (lambda: ~cr.tensor([1.0]), TypeError, ["bitwise_not", "integers or booleans", "float32"]),
    "a huge integer": (lambda: cr.tensor([1]) + 2**63, OverflowError, ["does not fit", "int64", ".double()"]),
    "classes as floats": (
        lambda: nn.functional.cross_entropy(cr.ones(2, 3), cr.tensor([0.0, 1.0])),
        RuntimeError,
        ["floating point", ".long()"],
    ),
    "a class too many": (
        lambda: nn.functional.cross_entropy(cr.ones(2, 3), cr.tensor([0, 5])),
        IndexError,
        ["class index 5", "3 classes"],
    ),
    "a list as from_numpy": (lambda: cr.from_numpy([1, 2]), TypeError, ["NumPy array", "list", "chainrule.tensor"]),
    "an unused input": (lambda: cr.autograd.grad(leaf().sum(), leaf()), RuntimeError, ["not used", "allow_unused"]),
    "grad of something else": (lambda: setattr(leaf(), "grad", 3), TypeError, ["Tensor or None", "int"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_message_teaches(name):
    make, kind, words = MISTAKES[name]
    with pytest.raises(kind) as caught:
        make()
    text = str(caught.value)
    rest = text
    for word in words:
        assert word in rest, f"{word!r} is missing, or stands too early, in:\n{text}"
        rest = rest[rest.index(word) :]
    line = make.__code__.co_firstlineno
    at = [part for part in text.split("\n") if part.strip().startswith("at:")]
    assert len(at) == 1, text
    assert at[0].split("at:")[1].strip().startswith(tuple(f"{__file__}:{line + i}" for i in range(4))), text
    assert len(text) < 700, "too long to be read"


def test_backward_twice():
    y = (leaf() * leaf()).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"(?s)freed.*SumBackward0.*test_errors.*retain_graph=True"):
        y.backward()


def test_missing_names_are_guessed_by_python():
    with pytest.raises(AttributeError) as caught:
        cr.ones(2).transposee(0, 1)
    assert caught.value.name == "transposee"
    assert isinstance(caught.value.obj, cr.Tensor)
    with pytest.raises(AttributeError) as caught:
        cr.onse(2)
    assert caught.value.name == "onse"
    assert caught.value.obj is cr
    assert "ones" in dir(cr)
    assert "save" in dir(cr)


def test_frames_of_the_library_are_told_by_their_folder():
    from chainrule.core.errors import is_internal

    assert is_internal(cr.__file__)
    assert not is_internal(__file__)
