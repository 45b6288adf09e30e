"""Outputs that share memory with each other live until a call ends."""

import numpy as np

import chainrule as cr
from chainrule import nn


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
