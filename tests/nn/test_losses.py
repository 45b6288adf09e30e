"""Losses other than cross-entropy: formulas in float64, derivatives, reductions, shapes that do not belong together."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

RNG = np.random.default_rng(5)
A, B = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
P = RNG.uniform(0.05, 0.95, (4, 3))
Y = RNG.uniform(0.0, 1.0, (4, 3))
SIGN = np.where(RNG.random((4, 3)) < 0.5, -1.0, 1.0)
COUNTS = RNG.integers(0, 9, (4, 3)).astype(float)
VAR = RNG.uniform(0.1, 2.0, (4, 3))
W = RNG.uniform(0.5, 2.0, (4, 3))
SIZE = np.abs(A - B)


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def stirling(y: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(y > 1, y * np.log(y) - y + 0.5 * np.log(2 * np.pi * y), 0.0)


# name: (function of the tensors and keywords, its arrays, its keywords, the losses element by element)
CASES = {
    "mse": (F.mse_loss, (A, B), {}, (A - B) ** 2),
    "l1": (F.l1_loss, (A, B), {}, SIZE),
    "smooth_l1": (F.smooth_l1_loss, (A, B), {"beta": 0.8}, np.where(SIZE < 0.8, SIZE**2 / 1.6, SIZE - 0.4)),
    "smooth_l1_zero": (F.smooth_l1_loss, (A, B), {"beta": 0.0}, SIZE),
    "huber": (F.huber_loss, (A, B), {"delta": 0.7}, np.where(SIZE < 0.7, SIZE**2 / 2, 0.7 * (SIZE - 0.35))),
    "bce": (F.binary_cross_entropy, (P, Y), {}, -(Y * np.log(P) + (1 - Y) * np.log(1 - P))),
    "bce_logits": (
        F.binary_cross_entropy_with_logits,
        (A, Y),
        {},
        -(Y * np.log(logistic(A)) + (1 - Y) * np.log(1 - logistic(A))),
    ),
    "kl": (F.kl_div, (A, Y), {}, Y * (np.log(Y) - A)),
    "kl_log": (F.kl_div, (A, B), {"log_target": True}, np.exp(B) * (B - A)),
    "poisson_log": (F.poisson_nll_loss, (A, COUNTS), {}, np.exp(A) - COUNTS * A),
    "poisson": (F.poisson_nll_loss, (P, COUNTS), {"log_input": False}, P - COUNTS * np.log(P + 1e-8)),
    "poisson_full": (F.poisson_nll_loss, (A, COUNTS), {"full": True}, np.exp(A) - COUNTS * A + stirling(COUNTS)),
    "gaussian": (F.gaussian_nll_loss, (A, B, VAR), {}, 0.5 * (np.log(VAR) + (A - B) ** 2 / VAR)),
    "gaussian_full": (
        F.gaussian_nll_loss,
        (A, B, VAR),
        {"full": True},
        0.5 * (np.log(2 * np.pi * VAR) + (A - B) ** 2 / VAR),
    ),
    "hinge_embedding": (
        F.hinge_embedding_loss,
        (A, SIGN),
        {"margin": 0.6},
        np.where(SIGN > 0, A, np.maximum(0, 0.6 - A)),
    ),
    "margin_ranking": (
        F.margin_ranking_loss,
        (A, B, SIGN),
        {"margin": 0.3},
        np.maximum(0, -SIGN * (A - B) + 0.3),
    ),
    "soft_margin": (F.soft_margin_loss, (A, SIGN), {}, np.log1p(np.exp(-SIGN * A))),
}
# Which of the arrays a derivative is checked for.
SMOOTH = {
    "gaussian": 3,
    "gaussian_full": 3,
    "mse": 2,
    "l1": 2,
    "smooth_l1": 2,
    "huber": 2,
    "margin_ranking": 2,
    "kl": 2,
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", CASES)
def test_formula_and_reductions(name):
    fn, arrays, settings, losses = CASES[name]
    x = [cr.tensor(a) for a in arrays]
    assert fn(*x, reduction="none", **settings).numpy() == pytest.approx(losses, rel=1e-12, abs=1e-14)
    assert fn(*x, reduction="sum", **settings).item() == pytest.approx(losses.sum(), rel=1e-12)
    assert fn(*x, **settings).item() == pytest.approx(losses.mean(), rel=1e-12)
    with pytest.raises(ValueError, match="'median' is not a valid value for reduction"):
        fn(*x, reduction="median", **settings)


@pytest.mark.parametrize("name", CASES)
def test_derivative(name, check_gradient):
    fn, arrays, settings, _ = CASES[name]
    n = SMOOTH.get(name, 1)
    rest = [cr.tensor(a) for a in arrays[n:]]
    check_gradient(lambda *x: fn(*x, *rest, reduction="none", **settings), *arrays[:n])


SHAPED = [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy, F.soft_margin_loss]
SHAPED += [F.binary_cross_entropy_with_logits, F.poisson_nll_loss, F.hinge_embedding_loss, nn.MSELoss(), nn.L1Loss()]


@pytest.mark.parametrize("loss", SHAPED, ids=lambda f: getattr(f, "__name__", type(f).__name__))
@pytest.mark.parametrize("n", [1, 5])
def test_a_column_against_a_vector_is_an_error_that_explains_itself(loss, n):
    column, vector = cr.full((n, 1), 0.5), cr.full((n,), 0.5)
    for a, b in ((column, vector), (vector, column)):
        with pytest.raises(ValueError, match="almost surely a mistake") as caught:
            loss(a, b)
        text = str(caught.value)
        assert f"({n}, 1)" in text
        assert f"({n},)" in text
        assert f"they would broadcast to ({n}, {n})" in text
        assert "squeeze(-1)" in text
        assert "unsqueeze(-1)" in text
        assert "test_losses.py" in text


def test_the_fix_named_is_the_right_one():
    column, vector = cr.zeros(5, 1), cr.zeros(5)
    with pytest.raises(ValueError, match=r"input\.squeeze\(-1\) makes both \(5,\), or target\.unsqueeze\(-1\)"):
        F.mse_loss(column, vector)
    with pytest.raises(ValueError, match=r"target\.squeeze\(-1\) makes both \(5,\), or input\.unsqueeze\(-1\)"):
        F.mse_loss(vector, column)
    assert F.mse_loss(column.squeeze(-1), vector).item() == 0.0


def test_other_shapes():
    with pytest.raises(ValueError, match="do not belong together"):
        F.mse_loss(cr.zeros(3), cr.zeros(4))
    with pytest.raises(ValueError, match=r"broadcast to \(2, 3\)"):
        F.mse_loss(cr.zeros(2, 1), cr.zeros(1, 3))
    with pytest.warns(UserWarning, match="same size"):
        assert F.mse_loss(cr.zeros(2, 3), cr.ones(3)).item() == 1.0
    with pytest.warns(UserWarning, match="same size"):
        assert F.l1_loss(cr.zeros(2, 3), cr.tensor(2.0)).item() == 2.0
    with pytest.raises(ValueError, match="equal shapes"):
        F.binary_cross_entropy(cr.full((2, 3), 0.5), cr.ones(3))


def test_a_target_that_is_no_tensor():
    with pytest.raises(TypeError, match=r"Tensor and float(.|\n)*make tensors first"):
        F.mse_loss(cr.zeros(3), 0.5)


def test_weighted_means():
    a, b, w = cr.tensor(A), cr.tensor(B), cr.tensor(W)
    assert F.mse_loss(a, b, weight=w).item() == pytest.approx((W * (A - B) ** 2).sum() / W.sum(), rel=1e-12)
    assert F.l1_loss(a, b, weight=w).item() == pytest.approx((W * SIZE).sum() / W.sum(), rel=1e-12)
    huber = W * np.where(SIZE < 1, SIZE**2 / 2, SIZE - 0.5)
    assert F.huber_loss(a, b, weight=w).item() == pytest.approx(huber.mean(), rel=1e-12)
    p, y = cr.tensor(P), cr.tensor(Y)
    bce = -(Y * np.log(P) + (1 - Y) * np.log(1 - P)) * W
    assert F.binary_cross_entropy(p, y, w).item() == pytest.approx(bce.mean(), rel=1e-12)
    with pytest.raises(ValueError, match="shape of the losses"):
        F.mse_loss(a, b, weight=cr.ones(3))


def test_bce_is_finite_at_the_ends():
    p = cr.tensor([0.0, 0.0, 1.0, 1.0], dtype=cr.float64, requires_grad=True)
    y = cr.tensor([0.0, 1.0, 0.0, 1.0], dtype=cr.float64)
    loss = F.binary_cross_entropy(p, y, reduction="none")
    assert loss.tolist() == [0.0, 100.0, 100.0, 0.0]
    loss.sum().backward()
    assert np.isfinite(p.grad.numpy()).all()
    assert F.binary_cross_entropy(cr.tensor([0.0]), cr.tensor([1.0])).item() == 100.0
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(RuntimeError, match=r"between 0 and 1(.|\n)*sigmoid"):
            F.binary_cross_entropy(cr.tensor([0.5, bad]), cr.tensor([1.0, 0.0]))


def test_bce_with_logits():
    x = cr.tensor([1e4, -1e4], dtype=cr.float64, requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, cr.tensor([0.0, 1.0], dtype=cr.float64), reduction="none")
    assert loss.tolist() == [1e4, 1e4]
    loss.sum().backward()
    assert x.grad.tolist() == [1.0, -1.0]
    c = np.array([2.0, 0.5, 3.0])
    expected = -(c * Y * np.log(logistic(A)) + (1 - Y) * np.log(1 - logistic(A)))
    got = F.binary_cross_entropy_with_logits(cr.tensor(A), cr.tensor(Y), pos_weight=cr.tensor(c), reduction="none")
    assert got.numpy() == pytest.approx(expected, rel=1e-12)
    m = nn.BCEWithLogitsLoss(cr.tensor(W), pos_weight=cr.tensor(c))
    assert m(cr.tensor(A), cr.tensor(Y)).item() == pytest.approx((W * expected).mean(), rel=1e-12)
    assert list(m.state_dict()) == ["weight", "pos_weight"]


def test_kl_of_equal_distributions_is_zero_and_zero_targets_count_nothing():
    q = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    logs = np.log(np.array([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5]]))
    divergence = F.kl_div(cr.tensor(logs), cr.tensor(q), reduction="sum").item()
    assert divergence == pytest.approx(0.5 * math.log(2), rel=1e-12)
    batch = F.kl_div(cr.tensor(logs), cr.tensor(q), reduction="batchmean").item()
    assert batch == pytest.approx(0.25 * math.log(2), rel=1e-12)
    with pytest.warns(UserWarning, match="batchmean"):
        F.kl_div(cr.tensor(logs), cr.tensor(q))


def test_gaussian_variances():
    a, b = cr.tensor(A), cr.tensor(B)
    column = VAR[:, :1]
    expected = 0.5 * (np.log(column) + (A - B) ** 2 / column)
    for var in (cr.tensor(column), cr.tensor(column[:, 0])):
        assert F.gaussian_nll_loss(a, b, var, reduction="none").numpy() == pytest.approx(expected, rel=1e-12)
    number = F.gaussian_nll_loss(a, b, 2.0, reduction="none").numpy()
    assert number == pytest.approx(0.5 * (math.log(2) + (A - B) ** 2 / 2), rel=1e-12)
    zero = cr.tensor(np.zeros((4, 3)), requires_grad=True)
    loss = F.gaussian_nll_loss(a, b, zero, eps=0.5, reduction="none")
    assert loss.detach().numpy() == pytest.approx(0.5 * (math.log(0.5) + (A - B) ** 2 / 0.5), rel=1e-12)
    loss.sum().backward()
    assert zero.grad.numpy() == pytest.approx(0.5 * (2 - (A - B) ** 2 * 4), rel=1e-12)
    with pytest.raises(ValueError, match="negative"):
        F.gaussian_nll_loss(a, b, cr.tensor(-VAR))
    with pytest.raises(ValueError, match="incorrect size"):
        F.gaussian_nll_loss(a, b, cr.ones(7))


def test_cosine_embedding(check_gradient):
    y = np.array([1, -1, 1, -1])
    cosine = (A * B).sum(1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)
    expected = np.where(y == 1, 1 - cosine, np.maximum(0, cosine + 0.2))
    got = F.cosine_embedding_loss(cr.tensor(A), cr.tensor(B), cr.tensor(y), margin=-0.2, reduction="none")
    assert got.numpy() == pytest.approx(expected, rel=1e-10)
    check_gradient(lambda a, b: F.cosine_embedding_loss(a, b, cr.tensor(y), margin=-0.2), A, B)
    single = F.cosine_embedding_loss(cr.tensor(A[0]), cr.tensor(B[0]), cr.tensor(1))
    assert single.item() == pytest.approx(1 - cosine[0], rel=1e-10)
    with pytest.raises(ValueError, match=r"go with a target \(N,\)"):
        F.cosine_embedding_loss(cr.tensor(A), cr.tensor(B), cr.tensor(y[:2]))


def test_soft_margin_does_not_overflow():
    x = cr.tensor([-2e4], dtype=cr.float64)
    assert F.soft_margin_loss(x, cr.tensor([1.0], dtype=cr.float64)).item() == 2e4


def test_poisson_full_has_no_nan_gradient_at_zero_counts():
    x = cr.tensor([0.5, 1.5], dtype=cr.float64, requires_grad=True)
    F.poisson_nll_loss(x, cr.tensor([0.0, 3.0], dtype=cr.float64), full=True).backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_settings_that_make_no_sense():
    a = cr.zeros(2)
    with pytest.raises(RuntimeError, match="negative values for beta"):
        F.smooth_l1_loss(a, a, beta=-1.0)
    with pytest.raises(RuntimeError, match="non-positive values for delta"):
        F.huber_loss(a, a, delta=0.0)


MODULES = [
    (nn.MSELoss(), F.mse_loss, (A, B), {}),
    (nn.L1Loss(reduction="sum"), F.l1_loss, (A, B), {"reduction": "sum"}),
    (nn.SmoothL1Loss(beta=0.5), F.smooth_l1_loss, (A, B), {"beta": 0.5}),
    (nn.HuberLoss(delta=0.5), F.huber_loss, (A, B), {"delta": 0.5}),
    (nn.BCELoss(), F.binary_cross_entropy, (P, Y), {}),
    (
        nn.KLDivLoss(reduction="batchmean", log_target=True),
        F.kl_div,
        (A, B),
        {"reduction": "batchmean", "log_target": True},
    ),
    (nn.GaussianNLLLoss(full=True), F.gaussian_nll_loss, (A, B, VAR), {"full": True}),
    (nn.PoissonNLLLoss(full=True), F.poisson_nll_loss, (A, COUNTS), {"full": True}),
    (nn.HingeEmbeddingLoss(0.4), F.hinge_embedding_loss, (A, SIGN), {"margin": 0.4}),
    (nn.MarginRankingLoss(0.4), F.margin_ranking_loss, (A, B, SIGN), {"margin": 0.4}),
    (nn.SoftMarginLoss(), F.soft_margin_loss, (A, SIGN), {}),
    (nn.CosineEmbeddingLoss(0.1), F.cosine_embedding_loss, (A, B, SIGN[:, 0]), {"margin": 0.1}),
]


@pytest.mark.parametrize(("module", "fn", "arrays", "settings"), MODULES, ids=[type(m[0]).__name__ for m in MODULES])
def test_module_is_the_function(module, fn, arrays, settings):
    x = [cr.tensor(a) for a in arrays]
    assert module(*x).item() == fn(*x, **settings).item()
