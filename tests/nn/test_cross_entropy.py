"""Cross-entropy and negative log-likelihood against closed forms in float64."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

RNG = np.random.default_rng(3)
LOGITS = RNG.standard_normal((5, 4)) * 2
TARGET = np.array([0, 3, 1, 1, 2])
WEIGHT = np.array([0.5, 2.0, 1.0, 3.0])


def log_softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    z = x - x.max(axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(x))


def picked(x: np.ndarray = LOGITS, t: np.ndarray = TARGET) -> np.ndarray:
    return -log_softmax(x)[np.arange(len(t)), t]


def t(a: object, dtype: object = None) -> cr.Tensor:
    return cr.tensor(a, dtype=dtype)


def test_class_indices():
    losses = picked()
    x, y = t(LOGITS), t(TARGET)
    assert F.cross_entropy(x, y).item() == pytest.approx(losses.mean(), rel=1e-12)
    assert F.cross_entropy(x, y, reduction="sum").item() == pytest.approx(losses.sum(), rel=1e-12)
    assert F.cross_entropy(x, y, reduction="none").numpy() == pytest.approx(losses, rel=1e-12)


def test_two_equal_logits_lose_log_two():
    assert F.cross_entropy(t([[0.0, 0.0]], cr.float64), t([1])).item() == pytest.approx(math.log(2), rel=1e-15)


def test_gradient_is_softmax_minus_one_hot():
    x = cr.tensor(LOGITS, requires_grad=True)
    F.cross_entropy(x, t(TARGET)).backward()
    assert x.grad.numpy() == pytest.approx((softmax(LOGITS) - np.eye(4)[TARGET]) / 5, rel=1e-12, abs=1e-15)


def test_huge_logits_stay_finite():
    x = cr.tensor([[1e4, -1e4], [1e4, -1e4]], dtype=cr.float64, requires_grad=True)
    loss = F.cross_entropy(x, t([0, 1]), reduction="none")
    assert loss.tolist() == [0.0, 2e4]
    loss.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [1.0, -1.0]]


def test_weights_divide_the_mean_by_the_weights_that_were_met():
    x, y, w = t(LOGITS), t(TARGET), t(WEIGHT)
    losses = picked() * WEIGHT[TARGET]
    assert F.cross_entropy(x, y, w, reduction="none").numpy() == pytest.approx(losses, rel=1e-12)
    assert F.cross_entropy(x, y, w).item() == pytest.approx(losses.sum() / WEIGHT[TARGET].sum(), rel=1e-12)
    assert F.cross_entropy(x, y, w, reduction="sum").item() == pytest.approx(losses.sum(), rel=1e-12)


def test_ignored_rows_do_not_count_and_have_no_gradient():
    marked = TARGET.copy()
    marked[[1, 4]] = -100
    keep = marked != -100
    x = cr.tensor(LOGITS, requires_grad=True)
    loss = F.cross_entropy(x, t(marked))
    assert loss.item() == pytest.approx(picked()[keep].mean(), rel=1e-12)
    loss.backward()
    assert (x.grad.numpy()[~keep] == 0).all()
    none = F.cross_entropy(t(LOGITS), t(marked), reduction="none").numpy()
    assert (none[~keep] == 0).all()
    own = F.cross_entropy(t(LOGITS), t(TARGET), ignore_index=1).item()
    assert own == pytest.approx(picked()[TARGET != 1].mean(), rel=1e-12)
    weighted = F.cross_entropy(t(LOGITS), t(TARGET), t(WEIGHT), ignore_index=1).item()
    w = WEIGHT[TARGET] * (TARGET != 1)
    assert weighted == pytest.approx((picked() * w).sum() / w.sum(), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_label_smoothing_mixes_in_the_uniform_distribution(weighted):
    s, w = 0.3, WEIGHT if weighted else np.ones(4)
    q = (1 - s) * np.eye(4)[TARGET] + s / 4
    losses = -(q * w * log_softmax(LOGITS)).sum(1)
    weight = t(WEIGHT) if weighted else None
    args = {"weight": weight, "label_smoothing": s}
    assert F.cross_entropy(t(LOGITS), t(TARGET), reduction="none", **args).numpy() == pytest.approx(losses, rel=1e-12)
    mean = losses.sum() / w[TARGET].sum()
    assert F.cross_entropy(t(LOGITS), t(TARGET), **args).item() == pytest.approx(mean, rel=1e-12)
    marked = np.where(TARGET == 1, -100, TARGET)
    keep = TARGET != 1
    mean = losses[keep].sum() / w[TARGET][keep].sum()
    assert F.cross_entropy(t(LOGITS), t(marked), **args).item() == pytest.approx(mean, rel=1e-12)


def test_label_distributions():
    q = softmax(RNG.standard_normal((5, 4)))
    losses = -(q * log_softmax(LOGITS)).sum(1)
    assert F.cross_entropy(t(LOGITS), t(q)).item() == pytest.approx(losses.mean(), rel=1e-12)
    assert F.cross_entropy(t(LOGITS), t(q), reduction="none").numpy() == pytest.approx(losses, rel=1e-12)
    heavy = -(q * WEIGHT * log_softmax(LOGITS)).sum(1)
    assert F.cross_entropy(t(LOGITS), t(q), t(WEIGHT)).item() == pytest.approx(heavy.mean(), rel=1e-12)
    s = 0.2
    smooth = -(((1 - s) * q + s / 4) * log_softmax(LOGITS)).sum(1)
    assert F.cross_entropy(t(LOGITS), t(q), label_smoothing=s).item() == pytest.approx(smooth.mean(), rel=1e-12)
    one_hot = np.eye(4)[TARGET]
    by_index = F.cross_entropy(t(LOGITS), t(TARGET)).item()
    assert F.cross_entropy(t(LOGITS), t(one_hot)).item() == pytest.approx(by_index, rel=1e-13)


def test_one_sample_without_a_batch_axis():
    expected = picked()[0]
    assert F.cross_entropy(t(LOGITS[0]), t(0)).item() == pytest.approx(expected, rel=1e-12)
    assert F.cross_entropy(t(LOGITS[0]), t(0), reduction="none").shape == ()
    assert F.cross_entropy(t(LOGITS[0]), t(np.eye(4)[0])).item() == pytest.approx(expected, rel=1e-12)


def test_more_axes():
    x = RNG.standard_normal((2, 4, 3, 2))
    y = RNG.integers(0, 4, (2, 3, 2))
    losses = -np.take_along_axis(log_softmax(x), y[:, None], 1)[:, 0]
    got = F.cross_entropy(t(x), t(y), reduction="none")
    assert tuple(got.shape) == (2, 3, 2)
    assert got.numpy() == pytest.approx(losses, rel=1e-12)
    assert F.cross_entropy(t(x), t(y)).item() == pytest.approx(losses.mean(), rel=1e-12)
    q = np.moveaxis(np.eye(4)[y], -1, 1)
    assert F.cross_entropy(t(x), t(q)).item() == pytest.approx(losses.mean(), rel=1e-12)
    w = F.cross_entropy(t(x), t(q), t(WEIGHT)).item()
    assert w == pytest.approx((losses * WEIGHT[y]).mean(), rel=1e-12)


def test_nll_of_log_softmax_is_cross_entropy():
    for y in (TARGET, np.where(TARGET == 1, -100, TARGET)):
        for w in (None, t(WEIGHT)):
            for reduction in ("none", "sum", "mean"):
                a = F.cross_entropy(t(LOGITS), t(y), w, reduction=reduction)
                b = F.nll_loss(F.log_softmax(t(LOGITS), 1), t(y), w, reduction=reduction)
                assert a.numpy() == pytest.approx(b.numpy(), rel=1e-12)
    x = RNG.standard_normal((2, 4, 3))
    y = RNG.integers(0, 4, (2, 3))
    expected = -np.take_along_axis(x, y[:, None], 1)[:, 0]
    assert F.nll_loss(t(x), t(y), reduction="none").numpy() == pytest.approx(expected)
    assert F.nll_loss(t(x[0, :, 0]), t(y[0, 0])).item() == pytest.approx(expected[0, 0])


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: F.cross_entropy(x, t(TARGET), t(WEIGHT), label_smoothing=0.1),
        lambda x: F.cross_entropy(x, t(TARGET), t(WEIGHT), ignore_index=1, reduction="none"),
        lambda x: F.cross_entropy(x, F.softmax(x * 0.5, 1), t(WEIGHT)),
        lambda x: F.nll_loss(x, t(TARGET), t(WEIGHT), reduction="sum"),
    ],
)
def test_derivatives(loss, check_gradient):
    check_gradient(loss, LOGITS)


def test_shapes_that_do_not_fit_say_what_to_do():
    x = t(LOGITS)
    with pytest.raises(ValueError, match=r"\(5, 1\)(.|\n)*squeeze\(-1\)"):
        F.cross_entropy(x, t(TARGET[:, None]))
    with pytest.raises(ValueError, match=r"Expected input batch_size \(5\) to match target batch_size \(3\)"):
        F.cross_entropy(x, t(TARGET[:3]))
    with pytest.raises(ValueError, match="argmax"):
        F.cross_entropy(x, t(np.eye(4, dtype=np.int64)[TARGET]))
    with pytest.raises(RuntimeError, match=r"floating point(.|\n)*\.long\(\)"):
        F.cross_entropy(x, t(TARGET.astype(np.float64)))
    with pytest.raises(RuntimeError, match=r"floating point"):
        F.nll_loss(x, t(np.eye(4)[TARGET]))
    with pytest.raises(ValueError, match="one entry per class"):
        F.cross_entropy(x, t(TARGET), t([1.0, 2.0]))
    with pytest.raises(ValueError, match="one entry per class"):
        F.cross_entropy(x, t(np.eye(4)[TARGET]), t([1.0, 2.0]))
    with pytest.raises(ValueError, match="shape of the target"):
        F.cross_entropy(t(1.0), t(0))
    with pytest.raises(ValueError, match="label_smoothing must be between"):
        F.cross_entropy(x, t(TARGET), label_smoothing=1.5)
    with pytest.raises(ValueError, match="'average' is not a valid value for reduction"):
        F.cross_entropy(x, t(TARGET), reduction="average")


def test_targets_of_other_types():
    expected = F.cross_entropy(t(LOGITS), t(TARGET)).item()
    for dtype in (cr.int32, cr.int16, cr.uint8):
        assert F.cross_entropy(t(LOGITS), t(TARGET, dtype)).item() == expected
        assert F.nll_loss(t(log_softmax(LOGITS)), t(TARGET, dtype)).item() == pytest.approx(expected)
    with pytest.raises(TypeError, match="target is boolean"):
        F.cross_entropy(t(LOGITS), t(TARGET > 1))
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(TypeError, match=r"Tensor and ndarray(.|\n)*from_numpy"):
            loss(t(LOGITS), TARGET)


@pytest.mark.parametrize("bad", [4, -1])
def test_a_class_out_of_bounds_is_explained(bad):
    with pytest.raises(IndexError, match=r"out of bounds(.|\n)*0 to 3, as the input has 4 classes(.|\n)*subtract 1"):
        F.cross_entropy(t(LOGITS), t([bad, 0, 1, 2, 3]))
    with pytest.raises(IndexError, match=r"out of bounds(.|\n)*0 to 3"):
        F.nll_loss(t(LOGITS), t([bad, 0, 1, 2, 3]))


def test_modules():
    x, y = t(LOGITS), t(TARGET)
    m = nn.CrossEntropyLoss(t(WEIGHT), ignore_index=2, reduction="sum", label_smoothing=0.1)
    expected = F.cross_entropy(x, y, t(WEIGHT), ignore_index=2, reduction="sum", label_smoothing=0.1)
    assert m(x, y).item() == expected.item()
    assert list(m.state_dict()) == ["weight"]
    assert list(nn.CrossEntropyLoss().state_dict()) == []
    assert nn.NLLLoss(t(WEIGHT), ignore_index=1)(x, y).item() == F.nll_loss(x, y, t(WEIGHT), ignore_index=1).item()


def test_old_arguments_are_understood():
    x, y = t(LOGITS), t(TARGET)
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.CrossEntropyLoss(size_average=False)(x, y).item() == pytest.approx(picked().sum())
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert F.cross_entropy(x, y, reduce=False).shape == (5,)
