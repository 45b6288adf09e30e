"""The in-place program made of a rule gives what the rule gives."""

import threading

import numpy as np
import pytest

from chainrule.optim import program


def random_rule(seed):
    """A rule of up to 14 random operations on p, g, two states and two coefficients; any three values are results."""

    def rule(m, p, g, s, c, options):
        rng = np.random.default_rng(seed)
        values = [p, g, s["a"], s["b"]]
        for _ in range(rng.integers(0, 15)):
            x, y = (values[i] for i in rng.integers(0, len(values), 2))
            k = c["k"] if rng.random() < 0.5 else c["l"]
            made = [
                lambda x, y, k: x + y,
                lambda x, y, k: x - k * y,
                lambda x, y, k: x * y + 0.5,
                lambda x, y, k: m.maximum(x, y),
                lambda x, y, k: k / (1.0 + m.abs(x)),
                lambda x, y, k: -x,
                lambda x, y, k: m.sqrt(m.abs(y)),
                lambda x, y, k: m.where(x > y, x, k),
                lambda x, y, k: m.where(k > 0.0, x, y),
            ]
            values.append(made[rng.integers(len(made))](x, y, k))
        chosen = rng.choice(len(values), 3, replace=rng.random() < 0.3)
        return values[chosen[0]], {"a": values[chosen[1]], "b": values[chosen[2]]}

    return rule


@pytest.mark.parametrize("seed", range(300))
def test_random_rules(seed):
    rule = random_rule(seed)
    rng = np.random.default_rng(seed + 1000)
    p, g, a, b = (rng.standard_normal((3, 4)) for _ in range(4))
    c = {"k": np.array(0.3), "l": np.array(-0.7)}
    want_p, want = rule(np, p.copy(), g.copy(), {"a": a.copy(), "b": b.copy()}, c, frozenset())
    arrays = p.copy(), g.copy(), a.copy(), b.copy()
    compiled = program.compile_rule(rule, ("a", "b"), ("k", "l"), frozenset())
    compiled(arrays, tuple(c.values()))
    for name, got, expected in zip("pgab", arrays, (want_p, g, want["a"], want["b"]), strict=True):
        assert np.array_equal(got, expected), f"{name} differs after\n{compiled.source}"


def test_adam_like_rule_needs_one_scratch_buffer():
    def rule(m, p, g, s, c, options):
        mean = s["mean"] + c["k"] * (g - s["mean"])
        square = s["square"] * c["l"] + c["k"] * (g * g)
        return p - mean / (m.sqrt(square) + 1.0), {"mean": mean, "square": square}

    compiled = program.compile_rule(rule, ("mean", "square"), ("k", "l"), frozenset())
    assert compiled.scratch == 1
    assert "copyto" not in compiled.source


def test_state_that_a_rule_forgets_is_an_error():
    with pytest.raises(ValueError, match=r"new values for the state \('a',\), got \(\)"):
        program.compile_rule(lambda m, p, g, s, c, options: (p, {}), ("a",), (), frozenset())


def test_threads_do_not_share_scratch_buffers():
    def rule(m, p, g, s, c, options):
        return m.sqrt(p * p + g * g + 1.0) / (m.abs(p) + 1.0), {}

    compiled = program.compile_rule(rule, (), (), frozenset())
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(50_000) * 0.1 for _ in range(4)]
    g = rng.standard_normal(50_000) * 0.1
    wanted, results = [], [x.copy() for x in starts]
    for x in starts:
        want = x.copy()
        for _ in range(30):
            want, _ = rule(np, want, g, {}, {}, frozenset())
        wanted.append(want)

    def work(x):
        for _ in range(30):
            compiled((x, g), ())

    threads = [threading.Thread(target=work, args=(x,)) for x in results]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for got, want in zip(results, wanted, strict=True):
        assert np.array_equal(got, want)
