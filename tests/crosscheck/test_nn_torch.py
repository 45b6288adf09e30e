"""chainrule.nn against PyTorch: values and gradients, signatures, reprs, state dictionaries."""

import inspect

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")]

RNG = np.random.default_rng(21)
X, Z = RNG.standard_normal((6, 5)) * 3, RNG.standard_normal((6, 5))
P, Q = RNG.uniform(0.02, 0.98, (6, 5)), RNG.uniform(0.02, 0.98, (6, 5))
IMAGE = RNG.standard_normal((2, 3, 4, 5))
W5, W3 = RNG.uniform(0.3, 2.0, 5), RNG.uniform(0.3, 2.0, 3)
SIGN = np.where(RNG.random((6, 5)) < 0.5, -1.0, 1.0)
CLASSES = np.array([0, 4, 2, 2, 1, 3])
SOME = np.array([0, -100, 2, 2, -100, 3])
MAP = RNG.integers(0, 3, (2, 4, 5))
SOFT = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
VAR = RNG.uniform(0.1, 2.0, (6, 5))

# function, arguments (float arrays are differentiated if they come first), keywords
CASES: list[tuple[str, tuple, dict]] = [
    *[(name, (X,), {}) for name in ("relu", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid")],
    *[(name, (X,), {}) for name in ("logsigmoid", "tanh", "softplus", "softsign", "hardtanh", "relu6", "hardsigmoid")],
    *[(name, (X,), {}) for name in ("hardswish", "softshrink", "hardshrink", "tanhshrink")],
    ("leaky_relu", (X,), {"negative_slope": 0.3}),
    ("elu", (X,), {"alpha": 0.4}),
    ("celu", (X,), {"alpha": 0.4}),
    ("gelu", (X,), {"approximate": "tanh"}),
    ("softplus", (X,), {"beta": 2.5, "threshold": 3.0}),
    ("hardtanh", (X,), {"min_val": -0.3, "max_val": 2.0}),
    ("softshrink", (X,), {"lambd": 1.1}),
    ("threshold", (X, 0.3, 9.0), {}),
    ("prelu", (X, W5), {}),
    ("prelu", (IMAGE, W3), {}),
    ("prelu", (IMAGE, np.array([0.2])), {}),
    ("glu", (IMAGE,), {"dim": 2}),
    ("softmax", (IMAGE,), {"dim": 1}),
    ("softmin", (X,), {"dim": 0}),
    ("log_softmax", (IMAGE,), {"dim": -1}),
    ("linear", (X, RNG.standard_normal((4, 5)), RNG.standard_normal(4)), {}),
    ("linear", (IMAGE, RNG.standard_normal((4, 5))), {}),
    ("linear", (X[0], RNG.standard_normal((4, 5)), RNG.standard_normal(4)), {}),
    ("bilinear", (X, Z[:, :3], RNG.standard_normal((4, 5, 3)), RNG.standard_normal(4)), {}),
    ("layer_norm", (X, (5,)), {}),
    ("layer_norm", (X, (5,), W5, Z[0]), {"eps": 0.3}),
    ("layer_norm", (X[0], (5,), W5), {}),
    ("layer_norm", (IMAGE, (4, 5), IMAGE[0, 0], IMAGE[1, 1]), {}),
    ("layer_norm", (IMAGE.transpose(0, 3, 1, 2), (3, 4)), {}),
    ("normalize", (X,), {}),
    ("normalize", (IMAGE,), {"p": 3.0, "dim": 2}),
    ("cosine_similarity", (X, Z), {}),
    ("cosine_similarity", (IMAGE, IMAGE[:1] * 0.3 + 1), {"dim": 2}),
    ("pairwise_distance", (X, Z), {"p": 3.0, "keepdim": True}),
    ("pad", (IMAGE, (1, 2, 0, 3)), {"value": 2.0}),
    ("pad", (IMAGE, (-1, 2, 1, -2)), {}),
    *[("pad", (IMAGE, (3, 1, 2, 0)), {"mode": mode}) for mode in ("reflect", "replicate", "circular")],
    *[
        ("cross_entropy", (X, y), {"reduction": r, "label_smoothing": s, **w})
        for y in (CLASSES, SOME, SOFT)
        for r in ("mean", "sum", "none")
        for s in (0.0, 0.2)
        for w in ({}, {"weight": W5})
    ],
    *[
        ("cross_entropy", (IMAGE, MAP), {"reduction": r, "label_smoothing": s, "ignore_index": 1, "weight": W3})
        for r in ("mean", "none")
        for s in (0.0, 0.3)
    ],
    ("cross_entropy", (X[0], np.array(3)), {"reduction": "none"}),
    ("cross_entropy", (X[0], SOFT[0]), {"weight": W5}),
    *[("nll_loss", (X, y), {"reduction": r, "weight": W5}) for y in (CLASSES, SOME) for r in ("mean", "sum", "none")],
    ("nll_loss", (IMAGE, MAP), {"ignore_index": 2}),
    *[
        (name, args, {"reduction": r, **settings})
        for r in ("mean", "sum", "none")
        for name, args, settings in (
            ("mse_loss", (X, Z), {}),
            ("mse_loss", (X, Z), {"weight": VAR}),
            ("l1_loss", (X, Z), {}),
            ("l1_loss", (X, Z), {"weight": VAR}),
            ("smooth_l1_loss", (X, Z), {"beta": 0.7}),
            ("huber_loss", (X, Z), {"delta": 0.7}),
            ("huber_loss", (X, Z), {"weight": VAR}),
            ("binary_cross_entropy", (P, Q), {}),
            ("binary_cross_entropy", (P, Q), {"weight": VAR}),
            ("binary_cross_entropy_with_logits", (X, Q), {"pos_weight": W5}),
            ("binary_cross_entropy_with_logits", (X, Q), {"weight": VAR}),
            ("kl_div", (X, Q), {}),
            ("kl_div", (X, Z), {"log_target": True}),
            ("poisson_nll_loss", (Z, np.round(P * 6)), {"full": True}),
            ("poisson_nll_loss", (P, np.round(Q * 6)), {"log_input": False}),
            ("gaussian_nll_loss", (X, Z, VAR), {"full": True}),
            ("gaussian_nll_loss", (X, Z, VAR[:, :1]), {"eps": 0.8}),
            ("hinge_embedding_loss", (X, SIGN), {"margin": 0.7}),
            ("margin_ranking_loss", (X, Z, SIGN), {"margin": 0.3}),
            ("soft_margin_loss", (X, SIGN), {}),
            ("cosine_embedding_loss", (X, Z, SIGN[:, 0]), {"margin": -0.4}),
        )
    ],
    ("kl_div", (X, Q), {"reduction": "batchmean"}),
]


# PyTorch has no derivative by the target of these, or NaN where a count is 0.
TARGET_IS_CONSTANT = {"soft_margin_loss", "poisson_nll_loss"}


def run(library, fn, args: tuple, settings: dict) -> tuple[np.ndarray, list[np.ndarray]]:
    """Value, and the gradients of a weighted sum of it with respect to all float arrays."""
    make = library.tensor
    tensors, leaves = [], []
    for i, a in enumerate(args):
        if isinstance(a, np.ndarray):
            floating = a.dtype.kind == "f" and not (i == 1 and fn.__name__ in TARGET_IS_CONSTANT)
            tensors.append(make(a, requires_grad=floating))
            leaves += [tensors[-1]] if floating else []
        else:
            tensors.append(a)
    settings = {k: make(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
    y = fn(*tensors, **settings)
    probe = np.cos(np.arange(y.numel(), dtype=np.float64)).reshape(tuple(y.shape))
    (y * make(probe)).sum().backward()
    grads = [np.zeros(tuple(t.shape)) if t.grad is None else t.grad.numpy() for t in leaves]
    return y.detach().numpy(), grads


@pytest.mark.parametrize(("name", "args", "settings"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_functional_values_and_gradients(name, args, settings):
    value, grads = run(cr, getattr(F, name), args, settings)
    expected, expected_grads = run(torch, getattr(TF, name), args, settings)
    assert value.shape == expected.shape
    assert value.dtype == expected.dtype
    # PyTorch's softplus and log-sigmoid are cut to a line beyond 20, an error of 2e-9 that these inputs do not reach.
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-11)
    for got, want in zip(grads, expected_grads, strict=True):
        assert got == pytest.approx(want, rel=1e-7, abs=1e-9)


def test_float32_values_agree_too():
    x = X.astype(np.float32)
    for name in ("gelu", "mish", "elu", "softplus", "logsigmoid", "hardswish"):
        ours, theirs = getattr(F, name)(cr.tensor(x)), getattr(TF, name)(torch.tensor(x))
        assert ours.numpy().dtype == np.float32
        assert ours.numpy() == pytest.approx(theirs.numpy(), rel=3e-6, abs=1e-6)


def test_all_ignored_is_nan_as_there():
    y = np.full(6, -100)
    with np.errstate(invalid="ignore"):
        ours = F.cross_entropy(cr.tensor(X), cr.tensor(y)).item()
    assert np.isnan(ours)
    assert np.isnan(TF.cross_entropy(torch.tensor(X), torch.tensor(y)).item())


# Ours has more than PyTorch's, on purpose; and leaves out names that PyTorch itself calls deprecated.
EXTRA = {"dropout": {"generator"}, "Dropout": {"generator"}}
LEFT_OUT = {"Hardtanh": {"min_value", "max_value"}}


def parameters(fn) -> dict[str, object]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(fn).parameters.values()
    return {p.name: p.default for p in found if p.kind in kinds and p.name != "self"}


def same_parameters(name: str, ours, theirs) -> None:
    try:
        want = {k: v for k, v in parameters(theirs).items() if k not in LEFT_OUT.get(name, ())}
    except ValueError:  # a builtin of PyTorch that does not tell its signature
        pytest.skip("no signature to compare with")
    got = {k: v for k, v in parameters(ours).items() if k not in EXTRA.get(name, ())}
    assert list(got) == list(want)
    assert got == want


@pytest.mark.parametrize("name", F.__all__)
def test_functional_signatures(name):
    same_parameters(name, getattr(F, name), getattr(TF, name))


LAYERS = [n for n in nn.__all__ if isinstance(getattr(nn, n), type) and n not in ("Module", "Parameter", "Buffer")]


@pytest.mark.parametrize("name", LAYERS)
def test_layer_signatures(name):
    same_parameters(name, getattr(nn, name).__init__, getattr(torch.nn, name).__init__)


@pytest.mark.parametrize("name", [n for n in dir(nn.init) if n.endswith("_") and not n.startswith("_")])
def test_init_signatures(name):
    same_parameters(name, getattr(nn.init, name), getattr(torch.nn.init, name))


@pytest.mark.parametrize("name", nn.utils.__all__)
def test_utils_signatures(name):
    same_parameters(name, getattr(nn.utils, name), getattr(torch.nn.utils, name))


METHODS = """apply add_module buffers children cpu double eval extra_repr float forward get_buffer get_extra_state
get_parameter get_submodule half load_state_dict modules named_buffers named_children named_modules named_parameters
parameters register_buffer register_forward_hook register_forward_pre_hook register_module register_parameter
requires_grad_ set_extra_state state_dict to train type zero_grad"""


def test_module_has_what_is_used():
    ours, theirs = nn.Module, torch.nn.Module
    for name in METHODS.split():
        want = parameters(getattr(theirs, name))
        if name != "state_dict":  # PyTorch takes *args there for old programs
            assert set(parameters(getattr(ours, name))) >= set(want), name


REPRS = """Linear(3,4) Linear(3,4,bias=False) Bilinear(2,3,4) Identity(3,a=1) Flatten() Flatten(0,2) Unflatten(1,(2,3))
Dropout() Dropout(.2,True) ReLU() ReLU(True) LeakyReLU() LeakyReLU(.1,True) PReLU() PReLU(3) ELU() ELU(2.,True) SELU()
SELU(True) CELU() GELU() GELU('tanh') SiLU() SiLU(True) Mish() Sigmoid() LogSigmoid() Tanh() Softplus() Softsign()
Hardtanh() Hardtanh(-2,2,True) ReLU6() ReLU6(True) Hardsigmoid() Hardswish() Hardswish(True) Softshrink() Hardshrink(.3)
Tanhshrink() Threshold(.1,20) Softmax(dim=1) LogSoftmax(1) Softmin(1) GLU() CrossEntropyLoss() NLLLoss() MSELoss()
BCELoss() CosineSimilarity() PairwiseDistance() Sequential() ModuleList() ModuleDict() ParameterList() ParameterDict()
Sequential(nn.Linear(2,3),nn.ReLU(),nn.Sequential(nn.Tanh(),nn.Linear(3,1)))
ModuleList([nn.Linear(2,2),nn.Linear(2,2),nn.ReLU()])
ModuleDict({'a':nn.Linear(2,3),'b':nn.ModuleList([nn.ReLU(),nn.ReLU()])})"""


@pytest.mark.parametrize("text", REPRS.split())
def test_reprs(text):
    assert repr(eval("nn." + text, {"nn": nn})) == repr(eval("nn." + text, {"nn": torch.nn}))


def test_weights_pass_over_through_the_state_dict():
    ours = nn.Sequential(nn.Linear(5, 8), nn.PReLU(8), nn.Bilinear(1, 1, 1), nn.CrossEntropyLoss(cr.ones(3)))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.PReLU(8), torch.nn.Bilinear(1, 1, 1), torch.nn.CrossEntropyLoss(torch.ones(3))
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = X.astype(np.float32)
    with cr.no_grad():
        got = ours[:2](cr.tensor(x)).numpy()
    assert got == pytest.approx(theirs[:2](torch.tensor(x)).detach().numpy(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 2.5, float("inf")])
def test_clipping(norm_type):
    grads = [RNG.standard_normal((3, 4)), RNG.standard_normal(5)]
    totals, clipped = [], []
    for library in (cr, torch):
        ps = []
        for g in grads:
            p = library.nn.Parameter(library.zeros(g.shape, dtype=library.float64))
            p.grad = library.tensor(g)
            ps.append(p)
        totals.append(library.nn.utils.clip_grad_norm_(ps, 0.5, norm_type).item())
        clipped.append([p.grad.numpy() for p in ps])
    assert totals[0] == pytest.approx(totals[1], rel=1e-12)
    for ours, theirs in zip(*clipped, strict=True):
        assert ours == pytest.approx(theirs, rel=5e-6)  # PyTorch divides by the norm + 1e-6


@pytest.mark.parametrize("name", ["Xavier uniform", "Kaiming uniform"])
def test_bounds_of_initial_values(name):
    shape = (60, 40, 3)
    fn = {"Xavier uniform": "xavier_uniform_", "Kaiming uniform": "kaiming_uniform_"}[name]
    ours = getattr(nn.init, fn)(cr.empty(*shape)).numpy()
    theirs = getattr(torch.nn.init, fn)(torch.empty(*shape)).numpy()
    assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=2e-3)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)
