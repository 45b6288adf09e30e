"""The verifier finds what is wrong with a native program, and says where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler import capture
from chainrule.compiler.kernels import Loop, Product
from chainrule.compiler.llvm import loops, program
from chainrule.compiler.llvm.loops import emit_loop
from chainrule.compiler.native import NativeProgram
from chainrule.compiler.verify import VerificationError, verify_program
from native_checks import arrays_of, same

pytestmark = pytest.mark.usefixtures("cached_by_text")


def network(x, w, t):
    y = cr.tanh(x @ w + 0.5).sigmoid()
    return cr.nn.functional.cross_entropy(y, t), y.sum(0), (y > 0.6).sum()


def arguments():
    cr.manual_seed(0)
    return cr.randn(6, 5), cr.randn(5, 19), cr.tensor([0, 18, 3, 4, 5, 2])


def verified(function: Callable, *args: cr.Tensor, strict: bool = True):
    program = capture(function, *args)
    made = NativeProgram(program.graph)
    arrays = arrays_of(program, args)
    return made, arrays, verify_program(made, arrays, strict=strict)


def test_a_correct_program_gives_its_outputs():
    made, arrays, outputs = verified(network, *arguments())
    for a, b in zip(made(arrays), outputs, strict=True):
        assert same(a, b)


def break_op(monkeypatch, name, how):
    old = loops.EMITTERS[name]
    monkeypatch.setitem(loops.EMITTERS, name, lambda b, width, kind, *xs: how(b, old(b, width, kind, *xs)))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exp", "log"])
def test_a_function_that_is_off_by_a_few_units_is_found(name, monkeypatch):
    break_op(monkeypatch, name, lambda b, y: y * (1 + 1.5e-6))
    with pytest.raises(VerificationError) as caught:
        verified(network, *arguments())
    e = caught.value
    assert e.instruction.op.name == name
    assert not e.limits[0] <= e.got <= e.limits[1]
    assert e.limits[0] <= e.expected <= e.limits[1]
    text = str(e)
    assert f"= {name}(" in text
    assert "test_verify.py" in text  # the user's line
    assert f"kernel {e.kernel}" in text
    assert 'verify="never"' in text


def test_one_rounding_too_many_is_found(monkeypatch):
    break_op(monkeypatch, "add", lambda b, y: y * (1 + 1.3e-7))
    with pytest.raises(VerificationError) as caught:
        verified(lambda x: x + 1.25, cr.rand(50))
    assert caught.value.expected == caught.value.limits[0] == caught.value.limits[1]


def test_the_first_instruction_of_a_chain_is_named(monkeypatch):
    """Only the result of the chain is in memory; the loop is compiled again with every result stored."""
    break_op(monkeypatch, "cos", lambda b, y: y + 1e-3)
    with pytest.raises(VerificationError) as caught:
        verified(lambda x: ((x * 2.0).cos().exp() + x).sum(1), cr.rand(4, 30))
    assert caught.value.instruction.op.name == "cos"
    assert caught.value.index == (0, 0)


def test_nan_where_there_should_be_none_is_found(monkeypatch):
    break_op(monkeypatch, "exp", lambda b, y: b.select(y > 2.0, b.const(np.nan, y.kind, y.width), y))
    with pytest.raises(VerificationError) as caught:
        verified(lambda x: x.exp(), cr.tensor([0.0, 1.0]))
    assert caught.value.index == (1,)


def test_a_mask_that_is_inverted_is_found(monkeypatch):
    break_op(monkeypatch, "gt", lambda b, y: ~y)
    with pytest.raises(VerificationError):
        verified(lambda x: x > 0.5, cr.rand(9))


def replace_loops(monkeypatch, change: Callable[[Loop], Loop]):
    monkeypatch.setattr(program, "emit_loop", lambda m, name, loop, **rest: emit_loop(m, name, change(loop), **rest))


def test_a_sum_that_leaves_something_out_is_found(monkeypatch):
    replace_loops(
        monkeypatch,
        lambda k: Loop(
            (*k.space[:-1], k.space[-1] - 1), k.reduced, k.loads, k.body, k.stores, k.reductions, k.counters
        ),
    )
    with pytest.raises(VerificationError) as caught:
        verified(lambda x: x.sum(1), cr.rand(3, 40))
    assert caught.value.instruction.op.name == "sum"


def test_a_result_in_the_wrong_place_is_found(monkeypatch):
    def shift(k: Loop) -> Loop:
        stores = [s._replace(access=s.access._replace(offset=s.access.offset + 1)) for s in k.stores]
        return Loop(k.space, k.reduced, k.loads, k.body, stores, k.reductions, k.counters)

    replace_loops(monkeypatch, shift)
    with pytest.raises(VerificationError, match="elements are outside their bounds"):
        verified(lambda x: x * 2.0, cr.rand(9))


def test_writing_beside_the_results_is_found(monkeypatch):
    def also(k: Loop) -> Loop:
        s = k.stores[0]
        more = s._replace(access=s.access._replace(offset=k.space[0]))
        return Loop(k.space, k.reduced, k.loads, k.body, [s, more], k.reductions, k.counters)

    replace_loops(monkeypatch, also)
    with pytest.raises(VerificationError, match=r"outside its buffers|not its own"):
        verified(lambda x: x * 2.0, cr.rand(9))


def test_a_changed_input_is_found(monkeypatch):
    def overwrite(k: Loop) -> Loop:
        s = k.stores[0]
        x = next(iter(k.loads.values()))
        return Loop(k.space, k.reduced, k.loads, k.body, [s, s._replace(access=x)], k.reductions, k.counters)

    replace_loops(monkeypatch, overwrite)
    with pytest.raises(VerificationError, match="not its own"):
        verified(lambda x: x.exp(), cr.rand(9))


def test_a_wrong_product_is_found(monkeypatch):
    real = program.emit_product

    def shorter(module, name, spec, plan, **more):
        return real(module, name, spec.__class__(**{**spec.__dict__, "K": spec.K - 1}), **more)

    monkeypatch.setattr(program, "emit_product", shorter)
    with pytest.raises(VerificationError) as caught:
        verified(lambda x, y: x @ y, cr.rand(4, 7), cr.rand(7, 5))
    assert caught.value.instruction.op.name == "matmul"


def test_denormal_halves_are_rounded_by_more_than_their_last_place():
    x, w = cr.randn(30, 5), cr.randn(5, 40)
    verified(lambda x, w: (x @ w * 1e-6).to(cr.float16).to(cr.float32) * 3.0, x, w)


def test_errors_do_not_add_up_over_kernels():
    """A chain of 60 ill-conditioned products is within its bounds step by step."""
    cr.manual_seed(3)
    x = cr.randn(12, 12)

    def run(x):
        y = x
        for _ in range(60):
            y = (y @ x).tanh() * 3.0
        return y

    made, _, _ = verified(run, x)
    assert sum(isinstance(k, Product) for k in made.plan.kernels) == 60


def test_indices_out_of_range_raise_what_eager_mode_raises():
    program = capture(lambda t: cr.one_hot(t, 4), cr.tensor([1, 2]))
    made = NativeProgram(program.graph)
    with pytest.raises(IndexError, match="out of range"):
        verify_program(made, [np.array([1, 4])])


def test_results_written_over_inputs_are_verified_too():
    """In place: the output stands in the input's memory, as the runtime has it."""
    x = cr.rand(20)
    program = capture(lambda x: x * 0.5 + 1.0, x)
    made = NativeProgram(program.graph)
    aliases = {made.plan.outputs[0].buffer: made.plan.inputs[0]}
    arrays = arrays_of(program, [x])
    (out,) = verify_program(made, arrays, aliases, strict=True)
    assert same(out, x.numpy() * np.float32(0.5) + 1)
    assert same(arrays[0], x.numpy())
