"""Properties for all shapes and indices: broadcasting and its transpose, views there and back, indexing as NumPy's."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import func
from chainrule.core.shapes import broadcast_shapes, infer_reshape, inverse_permutation
from chainrule.ir.namespace import NUMPY

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FEW = settings(max_examples=60)


def counted(shape):
    """An array whose elements are all different."""
    return np.arange(math.prod(shape), dtype=np.float64).reshape(shape)


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=4, min_side=0))
@FEW
def test_broadcast_shapes_as_numpy(found):
    assert broadcast_shapes(*found.input_shapes) == found.result_shape


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0))
@FEW
def test_unbroadcast_is_the_transpose_of_broadcasting(found):
    """<broadcast(x), g> = <x, unbroadcast(g)>."""
    small, wide = found.input_shapes[0], found.result_shape
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(small), rng.standard_normal(wide)
    back = NUMPY.unbroadcast(g, small)
    assert np.shape(back) == small
    np.testing.assert_allclose((np.broadcast_to(x, wide) * g).sum(), (x * back).sum(), atol=1e-10)


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0))
@FEW
def test_gradients_of_broadcast_operands(found):
    """d/dx sum(x y) is y summed over the axes along which x was repeated, in x's own shape."""
    a, b = found.input_shapes
    x, y = cr.tensor(counted(a) + 1, requires_grad=True), cr.tensor(counted(b) - 2, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.shape == a
    assert y.grad.shape == b
    np.testing.assert_allclose((x.grad * x).sum().item(), (x * y).sum().item())
    np.testing.assert_allclose((y.grad * y).sum().item(), (x * y).sum().item())


@given(SHAPES, st.data())
@FEW
def test_permute_there_and_back(shape, data):
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    x = cr.tensor(counted(shape))
    y = x.permute(perm)
    np.testing.assert_array_equal(y.numpy(), counted(shape).transpose(perm))
    np.testing.assert_array_equal(y.permute(inverse_permutation(perm)).numpy(), x.numpy())
    if x.numel():
        y.zero_()
        assert not x.numpy().any()


@given(SHAPES, st.data())
@FEW
def test_reshape_there_and_back(shape, data):
    n = math.prod(shape)
    assume(n > 0)
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    first = data.draw(st.sampled_from(divisors))
    new = (first, -1) if data.draw(st.booleans()) else (-1, first)
    assert infer_reshape(new, n, shape) == counted(shape).reshape(new).shape
    x = cr.tensor(counted(shape))
    y = x.reshape(new)
    np.testing.assert_array_equal(y.numpy(), counted(shape).reshape(new))
    np.testing.assert_array_equal(y.view(shape).numpy(), x.numpy())
    y.fill_(7.0)
    assert (x.numpy() == 7).all()


@given(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4), st.data())
@FEW
def test_cat_undoes_split(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = cr.tensor(counted(shape))
    size = data.draw(st.integers(1, shape[dim] + 1))
    np.testing.assert_array_equal(cr.cat(x.split(size, dim), dim).numpy(), x.numpy())
    np.testing.assert_array_equal(cr.stack(x.unbind(dim), dim).numpy(), x.numpy())


POSITIVE_SLICES = st.builds(
    slice, st.none() | st.integers(-6, 6), st.none() | st.integers(-6, 6), st.none() | st.integers(1, 3)
)


@st.composite
def indices(draw, shape):
    """Index expressions of every kind that PyTorch knows: integers, slices, None, Ellipsis, index arrays and masks."""
    items, axis, advanced = [], 0, draw(st.booleans())
    wide = draw(st.sampled_from([(), (2,), (3,), (2, 1)]))
    while axis < len(shape) and draw(st.integers(0, 4)):
        kind = draw(
            st.sampled_from(["int", "slice", "none", "array", "mask"] if advanced else ["int", "slice", "none"])
        )
        if kind == "none":
            items.append(None)
            continue
        n = shape[axis]
        if kind == "int" and n:
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "array" and n:
            items.append(draw(hnp.arrays(np.int64, wide, elements=st.integers(-n, n - 1))))
        elif kind == "mask" and wide == ():
            items.append(draw(hnp.arrays(np.bool_, (n,))))
            wide = None  # one mask, and no further arrays, whose lengths would have to agree
            advanced = False
        else:
            items.append(draw(POSITIVE_SLICES))
        axis += 1
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), Ellipsis)
        return tuple(items)
    return tuple(items)


def as_tensors(index):
    return tuple(cr.tensor(i) if isinstance(i, np.ndarray) else i for i in index)


@st.composite
def arrays_and_indices(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    index = draw(indices(shape))
    at = next((k for k, i in enumerate(index) if i is Ellipsis), None)
    if at is not None:  # entries behind the Ellipsis count from the end: they must fit the axes they meet
        behind = [i for i in index[at + 1 :] if i is not None]
        assume(len(behind) == 0 or all(isinstance(i, slice) for i in behind))
    return shape, index


@given(arrays_and_indices())
@settings(max_examples=300)
def test_reading_by_an_index_as_numpy(case):
    shape, index = case
    want = counted(shape)[index]
    np.testing.assert_array_equal(cr.tensor(counted(shape))[as_tensors(index)].numpy(), want)


@given(arrays_and_indices())
@settings(max_examples=150)
def test_the_gradient_of_reading_counts_how_often_each_element_was_read(case):
    shape, index = case
    x = cr.tensor(counted(shape), requires_grad=True)
    y = x[as_tensors(index)]
    y.sum().backward()
    places = counted(shape)[index].ravel().astype(np.int64)
    np.testing.assert_array_equal(x.grad.numpy().ravel(), np.bincount(places, minlength=math.prod(shape)))


@given(arrays_and_indices(), st.booleans())
@settings(max_examples=150)
def test_writing_by_an_index_as_numpy(case, whole):
    shape, index = case
    want = counted(shape)
    places = want[index]
    value = -1.0 - (np.arange(places.size).reshape(places.shape) if whole else 0.0)
    assume(not whole or len(np.unique(places)) == places.size)
    want[index] = value
    x = cr.tensor(counted(shape))
    x[as_tensors(index)] = cr.tensor(value) if whole else value
    np.testing.assert_array_equal(x.numpy(), want)


@given(arrays_and_indices())
@settings(max_examples=80)
def test_the_gradient_through_a_write(case):
    """What was overwritten gets nothing; what was written gets what stands in its place."""
    shape, index = case
    places = counted(shape)[index]
    assume(len(np.unique(places)) == places.size)
    base = cr.tensor(counted(shape), requires_grad=True)
    value = cr.tensor(np.zeros(places.shape), requires_grad=True)
    x = base * 1.0
    x[as_tensors(index)] = value
    weights = counted(shape) + 1
    (x * cr.tensor(weights)).sum().backward()
    kept = weights.copy()
    kept[index] = 0
    np.testing.assert_array_equal(base.grad.numpy(), kept)
    np.testing.assert_array_equal(value.grad.numpy(), weights[index])


@given(arrays_and_indices())
@settings(max_examples=80)
def test_indexing_under_vmap(case):
    shape, index = case
    batch = np.stack([counted(shape), counted(shape) * 2])
    got = func.vmap(lambda x: x[as_tensors(index)])(cr.tensor(batch))
    np.testing.assert_array_equal(got.numpy(), np.stack([b[index] for b in batch]))


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.integers(-3, 3)), st.data()
)
@FEW
def test_sorting_is_stable_and_complete(a, data):
    dim = data.draw(st.integers(-a.ndim, a.ndim - 1))
    for descending in (False, True):
        values, index = cr.sort(cr.tensor(a), dim, descending)
        np.testing.assert_array_equal(values.numpy(), np.take_along_axis(a, index.numpy(), dim))
        np.testing.assert_array_equal(index.numpy(), np.argsort(-a if descending else a, dim, kind="stable"))
    k = data.draw(st.integers(0, a.shape[dim]))
    np.testing.assert_array_equal(
        cr.topk(cr.tensor(a), k, dim).values.numpy(), np.take(-np.sort(-a, dim), range(k), dim)
    )


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=2, max_side=6), elements=st.floats(-1e4, 1e4)))
@FEW
def test_softmax_is_a_distribution_whatever_the_logits(a):
    p = cr.softmax(cr.tensor(a), -1).numpy()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(cr.softmax(cr.tensor(a + 100.0), -1).numpy(), p, rtol=1e-9, atol=1e-12)
