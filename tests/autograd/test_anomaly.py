"""Anomaly mode names the op, the entry and the forward line of the first gradient that is not finite."""

import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd import detect_anomaly, grad, is_anomaly_enabled, set_detect_anomaly
from chainrule.func import vmap


def program(x):
    y = x * 2.0
    z = y.sqrt()  # the culprit
    return (z * 3.0).sum()


def test_off_by_default():
    x = cr.tensor([1.0, 0.0], requires_grad=True)
    program(x).backward()
    assert not np.isfinite(x.grad.numpy()).all()
    assert not is_anomaly_enabled()


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_message(create_graph):
    x = cr.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    with detect_anomaly(), pytest.raises(RuntimeError) as caught:
        program(x).backward(create_graph=create_graph)
    text = str(caught.value)
    assert "'sqrt'" in text
    assert "index (0, 1), value inf" in text
    assert "2 of 4 entries" in text
    assert "# the culprit" in text
    assert "was finite" in text
    assert not is_anomaly_enabled()


def test_a_seed_that_is_not_finite_is_not_blamed_on_the_op():
    x = cr.ones(2, requires_grad=True)
    with detect_anomaly(), pytest.raises(RuntimeError, match="was not finite either"):
        (x * 2).backward(cr.tensor([np.inf, 1.0]))


def test_finite_gradients_pass_and_are_the_same():
    x = cr.tensor([1.0, 4.0], requires_grad=True)
    program(x).backward()
    expected = x.grad.numpy().copy()
    x.grad = None
    with detect_anomaly():
        program(x).backward()
        a, _ = x.sort()
        (a.sum() + (x @ x)).backward()
    np.testing.assert_array_equal(x.grad.numpy(), expected + 1 + 2 * x.detach().numpy())


def test_custom_functions_several_results_and_vmap():
    class Bad(cr.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x * 1, x * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])

        @staticmethod
        def backward(ctx, g, h):
            return g / (ctx.saved_tensors[0] - 1.0)

    def per_member(v):
        v = (v * 1).requires_grad_()
        return grad(Bad.apply(v)[0], v)[0]

    x = cr.tensor([1.0, 2.0], requires_grad=True)
    with detect_anomaly(), pytest.raises(RuntimeError, match="rule of 'Bad'"):
        Bad.apply(x)[0].sum().backward()
    with detect_anomaly(), pytest.raises(RuntimeError, match="'Bad'"):
        vmap(per_member)(x.detach())


def test_nesting_setting_and_threads():
    with detect_anomaly():
        assert is_anomaly_enabled()
        with detect_anomaly(check_nan=False):
            assert not is_anomaly_enabled()
        with set_detect_anomaly(False):
            assert not is_anomaly_enabled()
        assert is_anomaly_enabled()
        seen = []
        thread = threading.Thread(target=lambda: seen.append(is_anomaly_enabled()))
        thread.start()
        thread.join()
        assert seen == [False]
    set_detect_anomaly(True)
    assert is_anomaly_enabled()
    set_detect_anomaly(False)
    assert not is_anomaly_enabled()
    with pytest.raises(ZeroDivisionError), detect_anomaly():
        raise ZeroDivisionError
    assert not is_anomaly_enabled()
