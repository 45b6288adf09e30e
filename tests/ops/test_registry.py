"""What every declaration must have, and values: against independent oracles, in every dtype, at special points."""

import inspect
import math
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.op import REGISTRY, Aval, Elementwise, General, Multilinear, elementwise
from chainrule.tensors.fastpath import TENSORS
from op_cases import Case, cases, deterministic, kernel, oracle, tensors

OPS = list(REGISTRY.values())
SPECIAL = [(op, inputs, value) for op in OPS for inputs, value in op.special]
KEEPS = [c for c in cases(deterministic) if any(a.dtype.kind == "f" for a in c.arrays()) and "dtype" not in c.params]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_a_declaration_is_complete(op):
    assert op.doc
    assert op.samples
    assert op.random or oracle(op) is not None, f"write an oracle for {op.name!r} in tests/op_oracles.py"
    assert isinstance(op, (Elementwise, Multilinear, General))
    for sample in op.samples:
        assert op.arity is None or len(sample.arrays) == op.arity
        assert set(sample.params) == set(op.params)
    for inputs, _ in op.special:
        assert len(inputs) == op.arity
    names = list(inspect.signature(op.kernel).parameters) if not isinstance(op.kernel, np.ufunc) else []
    assert op.params == tuple(names[len(names) - len(op.params) :])


def test_a_second_op_of_one_name_is_refused():
    with pytest.raises(ValueError, match="'exp' is declared already"):
        elementwise("exp", np.exp, doc="again", arity=1)


@pytest.mark.parametrize("case", cases(deterministic), ids=repr)
def test_value_against_an_independent_oracle(case):
    arrays = case.arrays()
    got = kernel(case.op)(*arrays, **case.params)
    want = np.asarray(oracle(case.op)(*arrays, **case.params))
    assert np.shape(got) == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", cases(deterministic), ids=repr)
def test_the_function_of_tensors_gives_the_kernels_value(case):
    arrays = case.arrays()
    got = case.function(*tensors(arrays))
    want = kernel(case.op)(*arrays, **case.params)
    np.testing.assert_array_equal(got.numpy(), want)
    assert got.numpy().dtype == np.asarray(want).dtype


@pytest.mark.parametrize("case", cases(), ids=repr)
def test_infer_against_the_kernels_shape_and_dtype(case):
    arrays = case.wide()
    got = np.asarray(kernel(case.op)(*arrays, **case.params))
    assert case.op.infer(*(Aval(a.shape, a.dtype) for a in arrays), **case.params) == Aval(got.shape, got.dtype)


@pytest.mark.parametrize("case", cases(deterministic), ids=repr)
def test_arguments_are_not_changed(case):
    arrays = case.arrays()
    before = [a.copy() for a in arrays]
    kernel(case.op)(*arrays, **case.params)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("op", "inputs", "value"), SPECIAL, ids=lambda v: getattr(v, "name", str(v)))
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_special_values(op, inputs, value, kind):
    if max((abs(x) for x in inputs if math.isfinite(x)), default=0) > float(np.finfo(kind).max):
        inputs, value = (np.inf,) * len(inputs), np.inf
    with np.errstate(all="ignore"):
        got = getattr(TENSORS, op.name)(*(cr.tensor(x, dtype=kind) for x in inputs))
    np.testing.assert_allclose(got.item(), value, rtol=4 * np.finfo(kind).eps)
    assert np.signbit(got.item()) == np.signbit(value) or value == 0 or math.isnan(value)


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("case", KEEPS, ids=repr)
def test_floating_dtypes_are_kept(case: Case, kind):
    arrays = [a.astype(kind) if a.dtype.kind == "f" else a for a in case.wide()]
    floats = [a for a in arrays if a.dtype.kind == "f"]
    arrays = [a.astype(kind) for a in arrays] if isinstance(case.op, Elementwise) and len(floats) > 1 else arrays
    got = np.asarray(kernel(case.op)(*arrays, **case.params))
    expected = case.op.infer(*(Aval(a.shape, a.dtype) for a in arrays), **case.params)
    assert got.dtype == expected.dtype
    assert expected.dtype.kind != "f" or expected.dtype == kind
    exact = kernel(case.op)(*(a.astype("f8") if a.dtype.kind == "f" else a for a in arrays), **case.params)
    if got.dtype.kind == "f":
        scale = max(1.0, np.abs(exact).max(initial=0))
        np.testing.assert_allclose(got, exact, rtol=8 * np.finfo(kind).eps, atol=8 * np.finfo(kind).eps * scale)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize(
    "name", ["add", "mul", "maximum", "minimum", "where", "eq", "lt", "logical_and", "bitwise_xor"]
)
def test_integers_and_booleans_where_allowed(name, kind):
    x, y = np.array([0, 1, 1, 0]).astype(kind), np.array([1, 1, 0, 0]).astype(kind)
    args = (x.astype(bool), x, y) if name == "where" else (x, y)
    got = getattr(TENSORS, name)(*(cr.from_numpy(a) for a in args))
    want = {"maximum": np.maximum(x, y), "minimum": np.minimum(x, y)}.get(name)
    want = REGISTRY[name].kernel(*args) if want is None else want
    np.testing.assert_array_equal(got.numpy(), want)
    assert got.numpy().dtype == want.dtype


@pytest.mark.parametrize(
    "op", [o for o in OPS if isinstance(o, Elementwise) and o.promotes == "float"], ids=lambda o: o.name
)
def test_float_functions_of_integers_give_the_default_dtype(op):
    ones = [cr.ones(2, dtype=cr.int64) for _ in range(op.arity)]
    with np.errstate(all="ignore"):
        got = getattr(TENSORS, op.name)(*ones)
        want = op.kernel(*(np.ones(2, np.float32) for _ in ones))
    assert got.dtype is cr.float32
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("op", [o for o in OPS if o.random], ids=lambda o: o.name)
def test_random_ops_are_pure_functions_of_seed_and_position(op):
    params = op.samples[0].params | {"shape": (200,)}
    call = lambda seed, at: np.asarray(op.kernel(np.array(seed), np.array(at), **params))  # noqa: E731
    np.testing.assert_array_equal(call(3, 5), call(3, 5))
    assert (call(3, 5) != call(4, 5)).mean() > 0.9
    assert (call(3, 5) != call(3, 5000)).mean() > 0.9
    if op.name == "uniform":
        assert 0 <= call(3, 5).min() < 0.1 < 0.9 < call(3, 5).max() < 1


@pytest.mark.parametrize("op", [o for o in OPS if isinstance(o, Elementwise)], ids=lambda o: o.name)
def test_formulas_are_written_for_every_derivative(op):
    for partial, text in zip(op.partials, op.formulas, strict=True):
        assert (partial is None) == (text is None)
        assert text is None or re.search(r"g|zeros", text)
