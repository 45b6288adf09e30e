"""Memory operations of the builder: addresses, loads, stores, copies, prefetch.

``bool`` occupies one byte in memory, 0 or 1; loads turn any other byte into true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule.compiler.llvm.values import BYTES, Value, ir_type, suffix

if TYPE_CHECKING:
    from chainrule.compiler.llvm.lanes import Lanes as _Base
else:
    _Base = object


class Memory(_Base):
    """The memory methods of :class:`~chainrule.compiler.llvm.builder.Builder`."""

    if TYPE_CHECKING:

        def raw(self, line: str) -> None: ...
        def declare(self, name: str, signature: str) -> None: ...

    # ---- addresses
    def offset(self, p: Value, nbytes: int | Value) -> Value:
        """The address ``nbytes`` after p."""
        if isinstance(nbytes, int):
            return p if nbytes == 0 else self.op(f"getelementptr i8, ptr {p.text}, i64 {nbytes}", "ptr")
        return self.op(f"getelementptr i8, ptr {p.text}, {nbytes.typed}", "ptr")

    def at(self, p: Value, index: int | Value, kind: str) -> Value:
        """The address of element ``index`` of an array of ``kind`` at p; index an int or a scalar integer."""
        if isinstance(index, int):
            return self.offset(p, index * BYTES[kind])
        t = "i8" if kind == "bool" else ir_type(kind)
        return self.op(f"getelementptr {t}, ptr {p.text}, {index.typed}", "ptr")

    def pointer(self, table: Value, index: int) -> Value:
        """Entry ``index`` of a table of addresses."""
        return self.load(self.at(table, index, "ptr"), "ptr")

    # ---- loads
    def load(
        self,
        p: Value,
        kind: str,
        width: int = 1,
        *,
        stride: int | Value = 1,
        mask: Value | None = None,
        align: int | None = None,
        invariant: bool = False,
    ) -> Value:
        """``width`` elements from p.

        Args:
            stride: distance of the elements, counted in elements: 1 is one vector load, 0 a scalar load with a splat,
                anything else (an int or a scalar i64) element by element.
            mask: lanes not set are not read and are zero.
            align: bytes that p is known to be a multiple of; an element's own size if not given.
            invariant: promise that nothing writes this memory while the function runs.
        """
        if stride != 1 and width > 1:
            return self._load_strided(p, kind, width, stride, mask)
        if kind == "bool":
            return self.ne(self.load(p, "u8", width, mask=mask, align=align, invariant=invariant), 0)
        a = align or BYTES[kind]
        if mask is not None:
            if width == 1:
                return self._load_if(p, kind, mask)
            t, m = ir_type(kind, width), ir_type("bool", width)
            name = f"llvm.masked.load.{suffix(kind, width)}.p0"
            self.declare(name, f"declare {t} @{name}(ptr, i32, {m}, {t})")
            call = f"call {t} @{name}(ptr {p.text}, i32 {a}, {mask.typed}, {t} zeroinitializer)"
            return self.op(call, kind, width)
        note = ", !invariant.load !0" if invariant else ""
        return self.op(f"load {ir_type(kind, width)}, ptr {p.text}, align {a}{note}", kind, width)

    def _load_if(self, p: Value, kind: str, mask: Value) -> Value:
        """A scalar load under a condition, through a one-lane vector so that nothing is read where it is false."""
        t, name = f"<1 x {ir_type(kind)}>", f"llvm.masked.load.v1{suffix(kind)}.p0"
        self.declare(name, f"declare {t} @{name}(ptr, i32, <1 x i1>, {t})")
        m = self.op(f"insertelement <1 x i1> poison, i1 {mask.text}, i64 0", "bool")
        args = f"ptr {p.text}, i32 {BYTES[kind]}, <1 x i1> {m.text}, {t} zeroinitializer"
        v = self.op(f"call {t} @{name}({args})", kind)
        return self.op(f"extractelement {t} {v.text}, i64 0", kind)

    def _element(self, p: Value, kind: str, i: int, stride: int | Value) -> Value:
        """The address of lane i."""
        return self.at(p, i * stride if isinstance(stride, int) else self.mul(stride, i), kind)

    def _load_strided(self, p: Value, kind: str, width: int, stride: int | Value, mask: Value | None) -> Value:
        if isinstance(stride, int) and stride == 0:
            one = self.load(p, kind, mask=None if mask is None else self.any(mask))
            v = self.splat(one, width)
            return v if mask is None else self.select(mask, v, self.zero(kind, width))
        lanes = [
            self.load(self._element(p, kind, i, stride), kind, mask=None if mask is None else self.extract(mask, i))
            for i in range(width)
        ]
        return self.vector(lanes)

    def gather(self, p: Value, indices: Value, kind: str, *, mask: Value | None = None) -> Value:
        """Element ``indices[lane]`` of the array at p for each lane; masked lanes are not read and are zero."""
        w = indices.width
        masks = [None if mask is None else self.extract(mask, i) for i in range(w)]
        lanes = [self.load(self.at(p, self.extract(indices, i), kind), kind, mask=masks[i]) for i in range(w)]
        return self.vector(lanes)

    # ---- stores
    def store(
        self, x: Value, p: Value, *, stride: int | Value = 1, mask: Value | None = None, align: int | None = None
    ) -> None:
        """Write the lanes of x at p; ``stride``, ``mask``, ``align`` as in :meth:`load`, stride 0 for scalars only."""
        kind, width = x.kind, x.width
        if stride != 1 and width > 1:
            if isinstance(stride, int) and stride == 0:
                raise ValueError("a vector cannot be stored with stride 0: reduce it first")
            for i in range(width):
                m = None if mask is None else self.extract(mask, i)
                self.store(self.extract(x, i), self._element(p, kind, i, stride), mask=m)
            return
        if kind == "bool":
            x = self.cast(x, "u8")
            kind = "u8"
        a = align or BYTES[kind]
        if mask is None:
            self.raw(f"store {x.typed}, ptr {p.text}, align {a}")
            return
        shown, m = x.typed, mask.typed
        if width == 1:
            t = f"<1 x {ir_type(kind)}>"
            shown = f"{t} {self.op(f'insertelement {t} poison, {x.typed}, i64 0', kind).text}"
            m = f"<1 x i1> {self.op(f'insertelement <1 x i1> poison, i1 {mask.text}, i64 0', 'bool').text}"
        else:
            t = x.type
        one = "v1" if width == 1 else ""
        name = f"llvm.masked.store.{one}{suffix(kind, width)}.p0"
        self.declare(name, f"declare void @{name}({t}, ptr, i32, <{width} x i1>)")
        self.raw(f"call void @{name}({shown}, ptr {p.text}, i32 {a}, {m})")

    # ---- whole ranges
    def memcpy(self, destination: Value, source: Value, nbytes: int | Value) -> None:
        """Copy bytes between ranges that do not overlap."""
        n = nbytes if isinstance(nbytes, int) else nbytes.text
        self.declare("llvm.memcpy.p0.p0.i64", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        self.raw(f"call void @llvm.memcpy.p0.p0.i64(ptr {destination.text}, ptr {source.text}, i64 {n}, i1 false)")

    def memset(self, destination: Value, nbytes: int | Value, byte: int = 0) -> None:
        """Set bytes."""
        n = nbytes if isinstance(nbytes, int) else nbytes.text
        self.declare("llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        self.raw(f"call void @llvm.memset.p0.i64(ptr {destination.text}, i8 {byte}, i64 {n}, i1 false)")

    def prefetch(self, p: Value, *, write: bool = False, locality: int = 3) -> None:
        """Ask for the cache line of p; locality 3 (keep in all levels) to 0 (used once). Any address is safe."""
        self.declare("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.raw(f"call void @llvm.prefetch.p0(ptr {p.text}, i32 {int(write)}, i32 {locality}, i32 1)")
