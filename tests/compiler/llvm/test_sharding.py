"""Which products are divided by columns: those of small batches, so that weights stay with a thread."""

import pytest

import chainrule as cr
from chainrule import nn

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler.llvm import program


@pytest.fixture
def decisions(monkeypatch, cached_by_text):
    """(M, N, K, by columns) of every product that threads divide, filled as programs are written."""
    found = []
    real = program.by_columns

    def recording(kernels, shared, products, target):
        chosen = real(kernels, shared, products, target)
        found.extend((spec.M, spec.N, spec.K, n in chosen) for n, (spec, _) in products.items())
        return chosen

    monkeypatch.setattr(program, "by_columns", recording)
    return found


def train(sizes, batch):
    cr.manual_seed(0)
    layers = [nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:3]), nn.ReLU(), nn.Linear(*sizes[2:])]
    model = nn.Sequential(*layers)
    optimizer = cr.optim.Adam(model.parameters())
    loss_fn = nn.CrossEntropyLoss()

    @cr.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step(cr.rand(batch, sizes[0]), cr.randint(0, sizes[-1], (batch,)))


def test_a_small_batch_keeps_the_rows_of_a_weight_with_a_thread(decisions):
    train((768, 256, 256, 10), 128)
    assert (128, 256, 768, True) in decisions  # forward: columns are the rows of the weight
    assert (256, 768, 128, False) in decisions  # its gradient, and its update: the same rows
    assert decisions.count((128, 256, 256, True)) == 2  # forward, and the gradient of the hidden layer


def test_a_large_batch_is_divided_itself(decisions):
    rows = 4002  # they cannot be cut into chunks, which threads would divide among themselves
    train((256, 128, 128, 10), rows)
    assert {columns for M, _, _, columns in decisions if rows == M} == {False}


def test_columns_that_do_not_divide_evenly_are_not_worth_it(decisions):
    function = cr.compile(lambda a, b: a @ b)
    function(cr.rand(60, 80), cr.rand(80, 16 * 3))
    assert {columns for *_, columns in decisions} <= {False}


def test_a_single_row_is_divided_by_columns(decisions):
    function = cr.compile(lambda a, b: a @ b)
    function(cr.rand(1, 2048), cr.rand(2048, 1024))
    assert (1, 1024, 2048, True) in decisions
