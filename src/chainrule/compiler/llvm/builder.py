"""A small writer of LLVM IR text: modules, functions, loops, typed operations.

Text is made rather than LLVM's own objects because a line of text costs a microsecond. A :class:`Module` collects
functions; a :class:`Builder` writes the body of one::

    m = Module(target)
    with m.function("axpy", x="ptr", y="ptr", a="f32", n="i64") as b:
        x, y, a, n = b.args
        W = target.width(4)
        wide = b.splat(a, W)
        with b.loop(0, n, W) as i:  # n a multiple of W
            p = b.at(y, i, "f32")
            b.store(b.fma(wide, b.load(b.at(x, i, "f32"), "f32", W), b.load(p, "f32", W)), p)
    run = build(m.text, target).function("axpy", "ptr", "ptr", "f32", "i64")
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.compiler.llvm.arithmetic import Arithmetic
from chainrule.compiler.llvm.lanes import Lanes
from chainrule.compiler.llvm.memory import Memory
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.llvm.values import LLVM, Value, ir_type, kind_of, literal, suffix

_FLUSH_X86 = 0x8040  # flush results, take operands as zero
_FLUSH_ARM = 1 << 24


class Module:
    """The text of one module. ``target`` decides attributes and which intrinsics are emitted."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._functions: list[str] = []
        self._names: set[str] = set()
        self._declarations: dict[str, str] = {}
        self._data: dict[tuple[str, bytes], str] = {}
        self._globals: list[str] = []

    def function(
        self,
        name: str,
        *,
        returns: str | None = None,
        internal: bool = False,
        noalias: bool = True,
        inline: bool | None = None,
        **arguments: str,
    ) -> Builder:
        """Start a function; use as a context manager, ``b.args`` are its arguments.

        Args:
            name: must be new in this module.
            returns: kind of the result; end the body with ``b.ret(value)``.
            internal: callable inside the module alone (then LLVM may drop or specialize it).
            noalias: promise that what is written through one pointer argument is not accessed through another.
            inline: False keeps it a function of its own (True has an effect only where IR passes run).
            arguments: kind of each, in order; scalars only (a vector crosses calls through memory).
        """
        if name in self._names:
            raise ValueError(f"a function called {name!r} is in this module already")
        self._names.add(name)
        return Builder(self, name, arguments, returns, internal, noalias, inline)

    def has(self, name: str) -> bool:
        """Whether a function of this name was started."""
        return name in self._names

    def add(self, name: str, text: str) -> None:
        """Add a function written as IR text, once."""
        if name not in self._names:
            self._names.add(name)
            self._functions.append(text)

    def declare(self, name: str, signature: str) -> None:
        """Add an external declaration once."""
        self._declarations[name] = signature

    def data(self, array: np.ndarray[Any, Any], align: int = 64) -> str:
        """A constant array in the module; the same contents are stored once. Returns its name, for ``b.data``."""
        kind = kind_of(array.dtype)
        kind = "u8" if kind == "bool" else kind
        key = (kind, array.tobytes())
        if key not in self._data:
            name = self._data[key] = f"@data{len(self._data)}"
            t = LLVM[kind]
            text = ", ".join(f"{t} {literal(v, kind)}" for v in array.ravel().tolist())
            self._globals.append(f"{name} = private unnamed_addr constant [{array.size} x {t}] [{text}], align {align}")
        return self._data[key]

    @property
    def text(self) -> str:
        """The whole module."""
        attributes = self.target.attributes
        parts = [
            f'target triple = "{self.target.triple}"',
            *self._globals,
            *self._declarations.values(),
            *self._functions,
        ]
        parts.append(f"attributes #0 = {{ {attributes} }}")
        parts.append(f"attributes #1 = {{ {attributes} noinline }}")
        parts.append(f"attributes #2 = {{ {attributes} alwaysinline }}")
        parts.append("!0 = !{}\n")
        return "\n".join(parts)


class Loop:
    """An open loop: ``index`` (i64), ``values`` (this round's carried values); ``next(...)`` sets the next round's."""

    def __init__(self, index: Value, values: list[Value]) -> None:
        self.index, self.values = index, values
        self.new: list[Value] = list(values)
        self.results: list[Value] = []

    def next(self, *values: Value) -> None:
        """The carried values of the next round; after the last they are ``results``."""
        if [v.type for v in values] != [v.type for v in self.values]:
            raise TypeError(f"a loop carries {[v.type for v in self.values]}, next() got {[v.type for v in values]}")
        self.new = list(values)


class Builder(Memory, Lanes, Arithmetic):
    """Writes the body of one function, instruction by instruction.

    Arithmetic, lane and memory methods are in the base classes.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        arguments: dict[str, str],
        returns: str | None,
        internal: bool,
        noalias: bool,
        inline: bool | None,
    ) -> None:
        self.module, self.target, self.name = module, module.target, name
        self._lines: list[str] = []
        self._stack: list[str] = []
        self._count = 0
        self._block = "entry"
        self._open = True
        self._returns = returns
        #: called as ``report(mask, what)`` by emitters of operations that eager mode refuses for some operands
        #: ("integer division by zero", "negative integer power"); None: such operations are not lowered
        self.report: Callable[[Value, str], None] | None = None
        self.args = [Value(self, f"%{a}", kind) for a, kind in arguments.items()]
        shown = ", ".join(
            f"{ir_type(v.kind)}{' noalias' if noalias and v.kind == 'ptr' else ''} {v.text}" for v in self.args
        )
        group = "#0" if inline is None else "#2" if inline else "#1"
        result = ir_type(returns) if returns else "void"
        self._head = f"define {'internal ' if internal else ''}{result} @{name}({shown}) {group} {{"

    # ---- raw text
    def op(self, rhs: str, kind: str, width: int = 1) -> Value:
        """Append ``%v = rhs`` and return %v as a value of the given type."""
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {rhs}")
        return Value(self, name, kind, width)

    def raw(self, line: str) -> None:
        """Append an instruction without a result."""
        self._lines.append("  " + line)

    def comment(self, text: str) -> None:
        """A remark in the IR."""
        self._lines.append(f"  ; {text}")

    def declare(self, name: str, signature: str) -> None:
        """Declare an external function or intrinsic, once per module."""
        self.module.declare(name, signature)

    def alloca(self, nbytes: int, align: int = 64) -> Value:
        """Scratch memory on the stack until the function returns (reserved at its entry, so loops may ask for it)."""
        self._count += 1
        name = f"%s{self._count}"
        self._stack.append(f"  {name} = alloca [{nbytes} x i8], align {align}")
        return Value(self, name, "ptr")

    # ---- calls
    def intrinsic(self, name: str, *args: Value, returns: tuple[str, int] | None = None) -> Value:
        """Call an intrinsic overloaded on the type of its first argument, such as ``llvm.fma``; declared by itself."""
        a = args[0]
        kind, width = returns or (a.kind, a.width)
        full = f"{name}.{suffix(a.kind, a.width)}"
        t = ir_type(kind, width)
        self.declare(full, f"declare {t} @{full}({', '.join(v.type for v in args)})")
        return self.op(f"call {t} @{full}({', '.join(v.typed for v in args)})", kind, width)

    def machine(self, name: str, returns: tuple[str, int], *args: Value | str) -> Value:
        """Call an intrinsic of the processor by its full name; immediate arguments as text such as ``"i32 4"``."""
        shown = [a if isinstance(a, str) else a.typed for a in args]
        types = [s.rsplit(" ", 1)[0] if isinstance(a, str) else a.type for s, a in zip(shown, args, strict=True)]
        t = ir_type(*returns)
        self.declare(name, f"declare {t} @{name}({', '.join(types)})")
        return self.op(f"call {t} @{name}({', '.join(shown)})", *returns)

    def call(self, name: str, *args: Value, returns: str | None = None) -> Value | None:
        """Call a function of this module (or an external one, declared here) with scalars and pointers."""
        if not self.module.has(name):
            t = ir_type(returns) if returns else "void"
            self.declare(name, f"declare {t} @{name}({', '.join(v.type for v in args)})")
        shown = ", ".join(v.typed for v in args)
        if returns is None:
            self.raw(f"call void @{name}({shown})")
            return None
        return self.op(f"call {ir_type(returns)} @{name}({shown})", returns)

    def data(self, array: np.ndarray[Any, Any]) -> Value:
        """The address of a constant array kept in the module."""
        return Value(self, self.module.data(array), "ptr")

    def i64(self, n: int | Value) -> Value:
        """An i64: ints become constants."""
        return n if isinstance(n, Value) else self.const(n, "i64")

    # ---- blocks
    def new_label(self, hint: str) -> str:
        """A fresh label."""
        self._count += 1
        return f"{hint}{self._count}"

    def label(self, name: str) -> None:
        """Start a basic block; the one before falls through to it if it is still open."""
        if self._open:
            self.raw(f"br label %{name}")
        self._lines.append(f"{name}:")
        self._block, self._open = name, True

    def branch(self, condition: Value | None, yes: str, no: str | None = None) -> None:
        """End the block: jump to ``yes``, or by the condition to ``yes`` or ``no``."""
        self.raw(f"br label %{yes}" if condition is None else f"br i1 {condition.text}, label %{yes}, label %{no}")
        self._open = False

    def ret(self, value: Value | None = None) -> None:
        """Return from the function."""
        self.raw("ret void" if value is None else f"ret {value.typed}")
        self._open = False

    def phi(self, choices: Sequence[tuple[Value, str]]) -> Value:
        """The value that belongs to the block control came from; first thing in a block."""
        v = choices[0][0]
        return self.op(f"phi {v.type} " + ", ".join(f"[ {c.text}, %{b} ]" for c, b in choices), v.kind, v.width)

    @contextmanager
    def if_(self, condition: Value) -> Iterator[None]:
        """A body that runs where the condition holds; nothing made in it may be used after it."""
        yes, end = self.new_label("then"), self.new_label("end")
        self.branch(condition, yes, end)
        self.label(yes)
        yield
        self.label(end)

    def if_else(
        self, condition: Value, yes: Callable[[], Sequence[Value]], no: Callable[[], Sequence[Value]]
    ) -> list[Value]:
        """Values from one of two bodies, of which only one runs."""
        then, other, end = self.new_label("then"), self.new_label("else"), self.new_label("end")
        self.branch(condition, then, other)
        self.label(then)
        a = list(yes())
        from_a = self._block
        self.branch(None, end)
        self.label(other)
        c = list(no())
        from_c = self._block
        self.label(end)
        return [self.phi([(u, from_a), (v, from_c)]) for u, v in zip(a, c, strict=True)]

    # ---- loops
    @contextmanager
    def loop_carrying(
        self, start: int | Value, stop: int | Value, step: int | Value, carry: Sequence[Value]
    ) -> Generator[Loop, None, None]:
        """``for index in range(start, stop, step)`` with carried values::

            with b.loop_carrying(0, n, 1, [total]) as k:
                k.next(k.values[0] + b.load(b.at(p, k.index, "f32"), "f32"))
            total = k.results[0]

        ``step`` is positive. The last round may begin anywhere below ``stop``: a body that takes several elements a
        round needs bounds that are multiples, or masks. No round at all gives the initial values as results.
        """
        head, end = self.new_label("loop"), self.new_label("done")
        first, last, by = self.i64(start), self.i64(stop), self.i64(step)
        surely = self.lt(first, last).text == "true"
        before = self._block
        if surely:
            self.branch(None, head)
        else:
            self.branch(self.lt(first, last), head, end)
        self.label(head)
        place = len(self._lines)
        self._lines.append("")
        self._count += 1
        index = Value(self, f"%i{self._count}", "i64")
        values = [Value(self, f"%c{self._count}_{j}", v.kind, v.width) for j, v in enumerate(carry)]
        loop = Loop(index, values)
        yield loop
        following = self.op(f"add nsw i64 {index.text}, {by.text}", "i64")
        again = self.lt(following, last)
        tail = self._block
        self.branch(again, head, end)
        phis = [f"  {index.text} = phi i64 [ {first.text}, %{before} ], [ {following.text}, %{tail} ]"]
        for v, initial, new in zip(values, carry, loop.new, strict=True):
            phis.append(f"  {v.text} = phi {v.type} [ {initial.text}, %{before} ], [ {new.text}, %{tail} ]")
        self._lines[place] = "\n".join(phis)
        self.label(end)
        if surely:
            loop.results = loop.new
        else:
            loop.results = [
                self.phi([(initial, before), (new, tail)]) for initial, new in zip(carry, loop.new, strict=True)
            ]

    @contextmanager
    def loop(self, start: int | Value, stop: int | Value, step: int | Value = 1) -> Iterator[Value]:
        """``for index in range(start, stop, step)`` without carried values: gives the index; see ``loop_carrying``."""
        with self.loop_carrying(start, stop, step, []) as k:
            yield k.index

    def for_vectors(self, count: int | Value, width: int, body: Callable[[Value, int], None], unroll: int = 1) -> None:
        """``body(index, width)`` over 0..count in steps of ``width`` (``unroll`` bodies a round), the rest by width 1.

        The usual frame of elementwise code: the tail runs the same body on scalars.
        """
        n = self.i64(count)
        done: int | Value = 0
        for step in dict.fromkeys((width * unroll, width, 1)):
            if isinstance(count, int):
                stop: int | Value = count - count % step
                if isinstance(done, int) and stop <= done:
                    continue
            else:
                stop = self.and_(n, -step) if step & (step - 1) == 0 else self.sub(n, self.irem(n, step))
            with self.loop(done, stop, step) as i:
                w = min(width, step)
                for u in range(step // w):
                    body(self.op(f"add nsw i64 {i.text}, {u * w}", "i64") if u else i, w)
            done = stop

    # ---- processor state
    @contextmanager
    def denormals_flushed(self) -> Iterator[None]:
        """Denormal numbers are zero, as operands and results, inside the body; then the thread's mode is restored.

        The body must consist of calls and loops: an instruction beside the switch may be scheduled across it.
        """
        if self.target.is_x86:
            self.declare("llvm.x86.sse.stmxcsr", "declare void @llvm.x86.sse.stmxcsr(ptr)")
            self.declare("llvm.x86.sse.ldmxcsr", "declare void @llvm.x86.sse.ldmxcsr(ptr)")
            old, new = self.alloca(4, 4), self.alloca(4, 4)
            self.raw(f"call void @llvm.x86.sse.stmxcsr(ptr {old.text})")
            self.store(self.load(old, "i32") | _FLUSH_X86, new)
            self.raw(f"call void @llvm.x86.sse.ldmxcsr(ptr {new.text})")
            yield
            self.raw(f"call void @llvm.x86.sse.ldmxcsr(ptr {old.text})")
            return
        before = self.machine("llvm.aarch64.get.fpcr", ("i64", 1))
        self.declare("llvm.aarch64.set.fpcr", "declare void @llvm.aarch64.set.fpcr(i64)")
        self.raw(f"call void @llvm.aarch64.set.fpcr({(before | _FLUSH_ARM).typed})")
        yield
        self.raw(f"call void @llvm.aarch64.set.fpcr({before.typed})")

    # ---- end
    def __enter__(self) -> Builder:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is None:
            self.close()

    def close(self) -> None:
        """End the body and hand its text to the module."""
        if self._open:
            if self._returns:
                raise ValueError(f"function {self.name!r} returns {self._returns}: end its body with ret(value)")
            self.ret()
        self.module._functions.append("\n".join((self._head, "entry:", *self._stack, *self._lines, "}")))
