"""What the machine is taken to be, and the way from IR text to a callable."""

from __future__ import annotations

import builtins
import gc
import subprocess
import sys

import numpy as np
import pytest

from chainrule.compiler.llvm import target as t

needs_llvm = pytest.mark.skipif(not t.available(), reason="native code needs llvmlite")
x86 = pytest.mark.skipif(t.platform.machine() not in t._X86, reason="only x86 processors are cut down")

ADD = """
define i64 @add(i64 %a, i64 %b) {
  %c = add i64 %a, %b
  ret i64 %c
}
"""


def test_the_package_is_imported_without_llvmlite():
    code = (
        "import sys, chainrule.compiler.llvm.vmath, chainrule.compiler.llvm.cache; sys.exit('llvmlite' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_llvmlite_is_named_with_what_to_do(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("llvmlite"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    t.llvm.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    try:
        with pytest.raises(t.BackendUnavailableError, match="pip install llvmlite"):
            t.llvm()
    finally:
        t.llvm.cache_clear()


@needs_llvm
def test_the_host_has_a_vector_register():
    target = t.host()
    assert target.vector_bytes in (16, 32, 64)
    assert target.width(4) == 2 * target.width(8) == target.vector_bytes // 4
    assert target.cpu in str(target)
    assert target.cpu in target.key


@needs_llvm
@x86
def test_features_are_cut_down_by_the_environment(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CPU_FEATURES", "sse2")
    target = t.host()
    assert (target.level, target.vector_bytes, target.has_fma, target.has_avx512f) == ("sse2", 16, False, False)
    assert target.key != t.describe().key or t.describe().level == "sse2"


@needs_llvm
@x86
def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="sse2 or avx2 or avx512"):
        t.describe("avx9")


@needs_llvm
@x86
@pytest.mark.parametrize(("level", "register"), [("sse2", "xmm"), ("avx2", "ymm"), ("avx512", "zmm")])
def test_the_widest_registers_are_really_used(level, register):
    try:
        target = t.describe(level)
    except ValueError as error:
        pytest.skip(str(error).splitlines()[0])
    v = f"<{target.width(4)} x float>"
    text = f"""
define void @f(ptr %p) #0 {{
  %x = load {v}, ptr %p, align 4
  %y = fmul {v} %x, %x
  store {v} %y, ptr %p, align 4
  ret void
}}
attributes #0 = {{ {target.attributes} }}
"""
    code = t.assembly(text, target)
    products = [line for line in code.splitlines() if "mulps" in line]
    assert len(products) == 1, code
    assert register in products[0]


@needs_llvm
def test_a_function_outlives_its_module():
    native = t.build(ADD)
    assert set(native.timings) == {"parse", "codegen", "load"}
    assert native.size > 0
    add = native.function("add", "i64", "i64", returns="i64")
    del native
    gc.collect()
    assert add(40, 2) == 42


@needs_llvm
def test_an_object_is_loaded_twice_and_each_is_freed_alone():
    code = t.compile_ir(ADD)
    first, second = (t.load(code).function("add", "i64", "i64", returns="i64") for _ in range(2))
    del first
    gc.collect()
    assert second(1, 2) == 3


@needs_llvm
def test_an_unknown_function_is_named():
    with pytest.raises(KeyError, match="subtract"):
        t.build(ADD).function("subtract")


@needs_llvm
def test_wrong_ir_is_shown_with_its_line():
    with pytest.raises(ValueError, match="not valid") as caught:
        t.compile_ir("define void @f() {\n  %x = add i32 1, 1.5\n  ret void\n}\n")
    assert "%x = add i32 1, 1.5" in str(caught.value)


@needs_llvm
def test_a_call_sees_the_memory_it_is_given():
    text = "define void @zero(ptr %p) {\n  store double 0.0, ptr %p, align 8\n  ret void\n}\n"
    x = np.ones(2)
    t.build(text).function("zero", "ptr")(x.ctypes.data)
    np.testing.assert_array_equal(x, [0, 1])
