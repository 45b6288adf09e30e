"""Fingerprints of plans: one for each machine code, and the same in every process."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import capture
from random_programs import STEP, make, program_of

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.fingerprint import fingerprint
from chainrule.compiler.llvm import cache
from chainrule.compiler.llvm.program import Code
from chainrule.compiler.native import NativeProgram

KNOWN: dict[str, str] = {}


def text_of(native):
    return Code(native.plan, native.target).module.text


@settings(max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=8), st.integers(0, 1), st.sampled_from([(3, 4), (4, 6), (66, 3)]))
def test_plans_with_one_fingerprint_have_one_text(steps, seed, shape):
    x, buffer, w = make(seed, shape)
    cr.manual_seed(seed)
    native = NativeProgram(capture(program_of(steps, buffer, buffer[1], w), x).graph)
    known, text = fingerprint(native.plan), text_of(native)
    assert known is not None
    assert KNOWN.setdefault(known, text) == text


def programs():
    """Programs that differ in one thing each."""
    x = cr.ones(6, 8)
    yield lambda a: a.sum(0), x
    yield lambda a: a.sum(1), x
    yield lambda a: a.sum(0), cr.ones(6, 9)
    yield lambda a: a.sum(0), x.double()
    yield lambda a: a.amax(0), x
    yield lambda a: a[1:].sum(0), x
    yield lambda a: a.exp().sum(0), x
    yield lambda a: a @ a.T, x
    yield lambda a: (a @ a.T).relu(), x
    yield lambda a: cr.cumsum(a, 0), x
    yield lambda a: cr.cumsum(a, 1), x
    yield lambda a: cr.sort(a, 0).values, x
    yield lambda a: cr.sort(a, 0, descending=True).values, x
    yield lambda a: a[cr.tensor([1, 2, 0])], x
    yield lambda a: a.to(cr.int32), x
    yield lambda a: a.to(cr.int64), x


def test_what_differs_has_another_fingerprint():
    found = [fingerprint(NativeProgram(capture(f, x).graph).plan) for f, x in programs()]
    texts = [text_of(NativeProgram(capture(f, x).graph)) for f, x in programs()]
    assert len(set(found)) == len(set(texts)) == len(found)


def test_unusual_things_have_none():
    looped = capture(lambda x: cr.scan(lambda c, r: (c * r, c + r), x[0], x)[1], cr.ones(3, 2))
    assert fingerprint(NativeProgram(looped.graph).plan) is None


def test_a_change_of_the_compiler_changes_it(monkeypatch):
    native = NativeProgram(capture(lambda x: x * 2, cr.ones(3)).graph)
    before = fingerprint(native.plan)
    monkeypatch.setattr("chainrule.compiler.fingerprint._sources", lambda: ("another.py 1 2",))
    assert fingerprint(native.plan) != before


def test_a_program_from_the_cache_is_not_written_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    size = random.randint(1000, 10**6)
    graph = capture(lambda x: (x.tanh() * 2).sum(), cr.ones(size)).graph
    first = NativeProgram(graph)
    assert {"writing", "codegen"} <= first.timings.keys()
    second = NativeProgram(graph)
    assert not {"writing", "codegen"} & second.timings.keys()
    x = np.linspace(0, 1, size, dtype=np.float32)
    np.testing.assert_array_equal(first([x])[0], second([x])[0])
    monkeypatch.setattr(cache, "_memory", cache.OrderedDict())
    assert "codegen" not in NativeProgram(graph).timings  # from the disk
    monkeypatch.setattr(cache, "_memory", cache.OrderedDict())
    for path in (tmp_path / "native").iterdir():
        path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    third = NativeProgram(graph)
    assert "codegen" in third.timings  # what was altered is made anew
    np.testing.assert_array_equal(first([x])[0], third([x])[0])


def test_other_processes_find_the_same():
    code = (
        "import chainrule as cr; from chainrule.compiler import capture; "
        "from chainrule.compiler.native import NativeProgram; from chainrule.compiler.fingerprint import fingerprint; "
        "print(fingerprint(NativeProgram(capture(lambda x: (x @ x.T).relu().sum(0), cr.ones(6, 8)).graph).plan))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
