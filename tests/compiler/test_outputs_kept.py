"""Outputs that share memory with each other, or with inputs that are replaced, live until a call ends."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core import trees


def test_a_value_returned_twice_survives_what_is_computed_after_it():
    results = []
    for wrap in (lambda f: f, cr.compile):
        cr.manual_seed(0)
        net = nn.Linear(4, 3)
        optimizer = cr.optim.Adam(net.parameters(), lr=0.1)
        x, y = cr.randn(25, 4), cr.randint(0, 3, (25,))

        @wrap
        def step(x, y, net=net, optimizer=optimizer):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            return loss.detach(), loss.detach(), {"again": loss.detach().reshape(())}

        results.append([(float(a), float(b), float(c["again"])) for a, b, c in [step(x, y) for _ in range(3)]])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5)


def swap(a, b):
    old = a.clone()
    a.copy_(b)
    b.copy_(old)


def replace(a, b):
    old = a.clone()
    a.add_(b)
    return old


def shift(a, b):
    first = a[:1].clone()
    a[:-1] = a[1:].clone()
    a[-1:] = first
    return first, a.clone()


@pytest.mark.parametrize("function", [swap, replace, shift])
@pytest.mark.parametrize("size", [4, 400])
def test_what_was_there_is_read_before_it_is_replaced(function, size):
    def run(call):
        a, b = cr.arange(size, dtype=cr.float32), cr.arange(size, dtype=cr.float32) + 7
        step = call(lambda: function(a, b))
        results = [trees.flatten(step())[0] for _ in range(3)]
        return [[r.numpy() for r in call if r is not None] for call in results], a.numpy(), b.numpy()

    found, wanted = run(cr.compile), run(lambda f: f)
    for x, y in zip(trees.flatten(found)[0], trees.flatten(wanted)[0], strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_gradient_that_is_an_input_is_read_before_the_input_is_replaced():
    w, k = cr.zeros(4, requires_grad=True), cr.arange(4, dtype=cr.float32)

    @cr.compile
    def step():
        w.grad = None
        (w * k).sum().backward()
        k.add_(1)

    for n in range(3):
        step()
        np.testing.assert_array_equal(w.grad.numpy(), np.arange(4) + n)
