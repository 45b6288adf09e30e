"""Matrix products specialized to their shape: C = A B, with an epilogue applied before a sum leaves its register.

:func:`emit_product` adds to a module the function ::

    void name(ptr A, ptr B, ptr C, ptr scratch, ptr indices..., ptr extras..., i64 begin, i64 end, ...)

that computes the rows begin <= i < end of C, counted through all matrices of the batch (0 to batches x M); or, of a
single product by columns, the panels whose first column is in that range (0 to N). Of a product in blocks,
``i64 from, i64 to`` follow: it adds the steps from <= k < to, whole blocks (0 to K), the first of which overwrites C.
Of a product that keeps B packed, ``i64 fresh`` follows: whether to pack it, or to find it in scratch. However they are
divided among calls, each element comes out with the same bits: the order of its sum depends on the specification alone.
Two calls may run at the same time with scratch memory of their own.

Loops around a tile: panels of columns in chunks that stay in the level-2 cache, blocks of k, tiles of rows, panels. See
:mod:`~chainrule.compiler.llvm.gemm_plan` for the choice of code; the scheme is that of Goto and van de Geijn, "Anatomy
of high-performance matrix multiplication" (2008), with the small operand in the level-2 cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chainrule.compiler.llvm import gemm_finite, gemm_pack, gemm_zeros
from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.gemm_layout import Layout
from chainrule.compiler.llvm.gemm_plan import COSTS, Piece, Plan, ProductSpec, Run, exact, make_plan
from chainrule.compiler.llvm.gemm_rows import LINE, Rows, ahead_of
from chainrule.compiler.llvm.gemm_tiles import Ahead, DotTile, Finish, Tile, tile_function
from chainrule.compiler.llvm.values import BYTES, Value

__all__ = ["ProductCode", "ProductSpec", "emit_product"]


@dataclass(frozen=True)
class ProductCode:
    """An emitted product.

    Attributes:
        name: of the function.
        scratch: bytes of scratch memory that a call needs (best aligned to 64).
        grain: rows in a tile: divide rows among threads by multiples of it and no tile is cut; 1 by columns.
        plan: what was chosen, for printing.
        keeps: whether B may stay packed in scratch from call to call.
    """

    name: str
    scratch: int
    grain: int
    plan: Plan
    keeps: bool


def emit_product(
    module: Module,
    name: str,
    spec: ProductSpec,
    plan: Plan | None = None,
    columns: bool = False,
    keep: bool = False,
) -> ProductCode:
    """Add the function of a product to a module.

    Args:
        module: tile and packing functions are shared between all products in it.
        name: of the function; what it takes is in the module's description.
        spec: the product.
        plan: overrides the choice from the table of costs.
        columns: the function computes a range of columns, not of rows; only where ``plan.by_columns`` allows it.
        keep: let B stay packed from call to call, if all of it is packed at once; see ``ProductCode.keeps``.
    """
    spec = spec.merged()
    plan = plan or make_plan(spec, module.target)
    layout = Layout(spec, plan, module.target, keep and not spec.batch)
    extras = {f"extra{i}": "ptr" for i in range(len(spec.extras))}
    indices = {name: "ptr" for name in ("a_index", "b_index") if getattr(spec, name)}
    arguments: dict[str, Any] = {
        "A": "ptr",
        "B": "ptr",
        "C": "ptr",
        "scratch": "ptr",
        **indices,
        **extras,
        "begin": "i64",
        "end": "i64",
        **(dict.fromkeys(("from", "to"), "i64") if spec.block else {}),
        **({"fresh": "i64"} if layout.keeps else {}),
    }
    inner = f"{name}_matrix" if spec.batch else name
    with module.function(inner, internal=bool(spec.batch), noalias=False, **arguments) as b:
        work = _Product(b, spec, plan, layout, columns)
        {"outer": work.outer, "dot": work.dot, "column": work.column, "none": work.none}[plan.family]()
    if spec.batch:
        with module.function(name, noalias=False, **arguments) as b:
            _over_batch(b, inner, spec)
    return ProductCode(name, layout.total, 1 if columns else plan.rows, plan, layout.keeps)


def _over_batch(b: Builder, inner: str, spec: ProductSpec) -> None:
    """Call ``inner`` for each matrix that has rows in the range."""
    if not spec.M or not spec.batches:
        return
    size, M = BYTES[spec.dtype], spec.M
    places, (begin, end), steps, _ = _parted(b, spec)
    indices = [i for i in (spec.a_index, spec.b_index) if i is not None]
    scratch = b.args[3]
    with b.loop(b.idiv(begin, M), b.idiv(end + (M - 1), M)) as matrix:
        index: list[Value] = []
        rest = matrix
        for n in reversed(spec.batch[1:]):
            index.insert(0, b.irem(rest, n))
            rest = b.idiv(rest, n)
        index.insert(0, rest)

        def moved(p: Value, strides: tuple[int, ...], unit: int, index: list[Value] = index) -> Value:
            for i, s in zip(index, strides, strict=True):
                p = b.offset(p, i * (s * unit)) if s else p
            return p

        a, q, c = (
            moved(p, s, size) for p, s in zip(b.args[:3], (spec.a_batch, spec.b_batch, spec.c_batch), strict=True)
        )
        strides = [*((i.batch, BYTES[i.kind]) for i in indices), *((s, 1) for s in spec.extras)]
        beside = [moved(p, *s) for p, s in zip(places, strides, strict=True)]
        first = matrix * M
        low, high = b.sub(begin, first), b.sub(end, first)
        b.call(inner, a, q, c, scratch, *beside, b.select(low > 0, low, 0), b.select(high < M, high, M), *steps)


def _parted(b: Builder, spec: ProductSpec) -> tuple[Sequence[Value], ...]:
    """The arguments after the scratch memory: indices and extras, the range of rows, that of steps, and ``fresh``."""
    count = len(spec.extras) + sum(1 for i in (spec.a_index, spec.b_index) if i)
    rest = b.args[4:]
    steps = count + 2 + (2 if spec.block else 0)
    return rest[:count], rest[count : count + 2], rest[count + 2 : steps], rest[steps:]


@contextmanager
def _span(b: Builder, start: int | Value, stop: int | Value, step: int) -> Iterator[Value]:
    """``range(start, stop, step)``, without a loop where it is a single round (of none, if there is nothing in it)."""
    if isinstance(start, int) and isinstance(stop, int) and stop - start <= step:
        yield b.i64(start)
    else:
        with b.loop(start, stop, step) as i:
            yield i


def _rest(b: Builder, total: int, at: Value, step: int) -> Value:
    """min(step, total - at)."""
    if total <= step:
        return b.i64(total)
    if total % step == 0:
        return b.i64(step)
    left = b.sub(total, at)
    return b.select(left < step, left, step)


class _Product:
    """The body of the function of one matrix."""

    def __init__(self, b: Builder, spec: ProductSpec, plan: Plan, layout: Layout, columns: bool) -> None:
        self.b, self.spec, self.plan, self.layout = b, spec, plan, layout
        self.a, self.p, self.c, self.scratch = b.args[:4]
        places, (self.begin, self.end), self.steps, self.fresh = _parted(b, spec)
        count = len(places) - len(spec.extras)
        indices, self.extras = places[:count], places[count:]
        self.columns = (self.begin, self.end) if columns else None
        if columns:
            self.begin, self.end = b.i64(0), b.i64(spec.M)
        self.kind, self.size = spec.dtype, BYTES[spec.dtype]
        self.a_is_far = spec.a_strides[1] == 1 and (
            spec.a_index is not None or spec.M * spec.K * self.size > COSTS[b.target.level].far
        )
        a_index = indices[0] if spec.a_index else None
        b_index = indices[-1] if spec.b_index else None
        self.a_rows = Rows(b, self.kind, self.a, spec.a_strides[0], spec.M, spec.a_index, a_index)
        self.b_rows = Rows(b, self.kind, self.p, spec.b_strides[0], spec.K, spec.b_index, b_index)

    def at(self, p: Value, *terms: tuple[Value, int]) -> Value:
        """The address of the element at the sum of index x stride."""
        for index, stride in terms:
            if stride and index.text != "0":
                p = self.b.offset(p, index * (stride * self.size))
        return p

    def finish(self, **more: object) -> Finish:
        """How tiles end where there is one block of k."""
        spec = self.spec
        fields = {"add": "always" if spec.accumulate else "never", "epilogue": spec.epilogue, **more}
        return Finish(spec.c_strides, extras=len(spec.extras), **fields)  # type: ignore[arg-type]

    def heights(self) -> list[tuple[int, Value, Value]]:
        """Tile heights, each with its range of rows; by columns these are known, and empty ranges left out."""
        return [(z, low, high) for z, low, high in self._heights() if low.known is None or low.known != high.known]

    def _heights(self) -> list[tuple[int, Value, Value]]:
        b, z, begin, end = self.b, self.plan.rows, self.begin, self.end
        if z == 1:
            return [(1, begin, end)]
        count = b.sub(end, begin)
        if not self.plan.smaller:
            middle = b.sub(end, b.irem(count, z))
            return [(z, begin, middle), (1, middle, end)]
        # as few tiles as it takes, some one row less; where the rows are too few for that, single rows at the end
        tiles = b.idiv(count + (z - 1), z)
        less = b.sub(tiles * z, count)
        fits = less <= tiles
        tall = b.select(fits, b.sub(tiles, less), b.idiv(count, z))
        middle = begin + tall * z
        if z == 2:
            return [(2, begin, middle), (1, middle, end)]
        upper = middle + b.select(fits, less, 0) * (z - 1)
        return [(z, begin, middle), (z - 1, middle, upper), (1, upper, end)]

    def call(self, tile: Tile | DotTile, a: Value, p: Value, row: Value, column: Value, **more: Value) -> None:
        """Call a tile; ``more``: partial, depth, flag, places, steps."""
        b, zero = self.b, self.b.i64(0)
        c = self.at(self.c, (row, self.spec.c_strides[0]), (column, self.spec.c_strides[1]))
        partial, depth, flag = more.get("partial", c), more.get("depth", zero), more.get("flag", zero)
        places, steps = more.get("places", c), more.get("steps", c)
        name = tile_function(b.module, tile)
        b.call(name, a, p, c, partial, depth, flag, row, column, places, steps, *self.extras)

    def none(self) -> None:
        """Nothing to compute."""

    # ---- outer
    def outer(self) -> None:
        """Tiles that take a vector of columns and step through k."""
        b, spec, plan = self.b, self.spec, self.plan
        heights = self.heights()
        if plan.zeros and not self.fresh:
            self.look_for_infinite()
        elif plan.zeros:
            with b.if_(b.ne(self.fresh[0], 0)):
                self.look_for_infinite()
        for run, per, place in zip(plan.runs, self.layout.chunks, self.layout.runs, strict=True):
            per = per if plan.pack else run.count
            packed = b.offset(self.scratch, place) if place else self.scratch

            def pack(k: Value, depth: Value, panel: Value, panels: Value, run: Run = run, at: Value = packed) -> None:
                with b.loop(0, panels) as j:
                    self.pack(run, at, panel, j, k, depth)

            with self.panels(run, per) as (panel, panels), self.blocks() as k:
                depth = _rest(b, spec.K, k, plan.depth)
                if self.fresh:
                    with b.if_(b.ne(self.fresh[0], 0)):
                        pack(k, depth, panel, panels)
                elif plan.pack:
                    pack(k, depth, panel, panels)
                elif plan.b_listed(spec):
                    self.b_rows.list(k, k + depth, b.i64(0), plan.depth, self.listed())
                for z, low, high in heights:
                    with b.loop(low, high, z) as row:
                        self.row_of_tiles(run, packed, per, panel, panels, k, depth, z, row)

    @contextmanager
    def blocks(self) -> Iterator[Value]:
        """The blocks of k: the first step of each."""
        steps: tuple[int | Value, int | Value] = (0, self.spec.K) if not self.steps else (self.steps[0], self.steps[1])
        with _span(self.b, *steps, self.plan.depth) as k:
            yield k

    @contextmanager
    def panels(self, run: Run, per: int) -> Iterator[tuple[Value, Value]]:
        """The panels of a run, ``per`` at a time: the first, and how many."""
        b = self.b
        if self.columns is None:
            with _span(b, 0, run.count, per) as panel:
                yield panel, _rest(b, run.count, panel, per)
            return
        first, end = (b.idiv(b.sub(c, run.start) + (run.columns - 1), run.columns) for c in self.columns)
        first = b.select(first > 0, first, 0)
        end = b.select(end < run.count, end, run.count)
        with b.loop(first, end, per) as panel:
            left = b.sub(end, panel)
            yield panel, b.select(left < per, left, per)

    def pack(self, run: Run, packed: Value, panel: Value, j: Value, k: Value, depth: Value) -> None:
        """Copy panel ``panel + j`` of a run, a block of k, to place j of those that are packed."""
        b, spec, plan, module = self.b, self.spec, self.plan, self.b.module
        b_k, b_n = spec.b_strides
        place = b.offset(packed, j * (plan.depth * run.stride * self.size))
        source = self.at(self.p, (k, 0 if spec.b_index else b_k), ((panel + j) * run.columns + run.start, b_n))
        if plan.pack == "rows":
            index = source
            if spec.b_index:
                assert self.b_rows.place is not None
                index = b.at(self.b_rows.place, k * spec.b_index.stride, spec.b_index.kind)
            about = (module, self.kind, run.columns, run.stride, b_k, spec.b_index)
            if plan.zeros == "b":
                steps, everything = self.steps_at(j)
                f = gemm_zeros.pack_live_rows(*about)
                found = b.call(f, source, place, depth, index, everything, b.offset(steps, BYTES["i64"]), returns="i64")
                assert found is not None
                b.store(found, steps)
            else:
                b.call(gemm_pack.pack_rows(*about), source, place, depth, index)
        elif plan.pack == "turn":
            width = b.target.width(self.size)

            def turn() -> None:
                strides = b.i64(b_n * self.size), b.i64(run.stride * self.size)
                noting = plan.zeros == "a"
                more = [self.flag] if noting else []
                for n in range(0, run.columns, width):
                    f = gemm_pack.pack_turned(module, self.kind, min(width, run.columns - n), noting)
                    start = b.offset(source, n * b_n * self.size)
                    b.call(f, start, b.offset(place, n * self.size), depth, *strides, *more)

            last = (spec.K - 1) % plan.depth + 1
            if last >= width:
                turn()
                return
            with b.if_(depth >= width):
                turn()
            with b.if_(depth < width):
                self.pack_any(source, place, depth, run.columns, run.stride)
                if plan.zeros == "a":
                    self.note_infinite(place, b.i64(1), 0, depth * run.stride)
        else:
            self.pack_any(source, place, depth, run.columns, run.stride)

    def pack_any(self, source: Value, place: Value, depth: Value, columns: int, stride: int) -> None:
        """Copy with the strides of B, element by element."""
        b = self.b
        numbers = (b.i64(n) for n in (columns, stride, *self.spec.b_strides))
        b.call(gemm_pack.pack_any(b.module, self.kind), source, place, depth, *numbers)

    def ahead(self, run: Run, per: int, z: int) -> Ahead | None:
        """What tiles of ``z`` rows ask for: rows of A from far away, or the next block of k; see gemm_rows."""
        depth, size = self.plan.depth, self.size
        each = 2 if self.plan.zeros else 1
        if self.plan.chains > 1:
            return None
        if self.a_is_far:
            return ahead_of(depth, z, self.share(per), each)
        if self.plan.pack == "rows" and depth < self.spec.K:
            return ahead_of(depth, sum(self.parts(run, per, z)), per * run.columns * size, each)
        return None

    def share(self, per: int) -> int:
        """Bytes of a row of A that each of ``per`` tiles asks for."""
        return -(-self.plan.depth * self.size // (per * LINE)) * LINE

    def parts(self, run: Run, per: int, z: int) -> tuple[int, int]:
        """How many rows of the next block of B, and pieces as long of A's, a tile of ``z`` rows asks for."""
        depth, M = self.plan.depth, self.spec.M
        rows = -(-depth * z // (M * per)) + 1
        return rows, -(-rows * M // (per * run.columns)) + 1 if self.spec.a_strides == (1, M) else 0

    def announce(self, ahead: Ahead, run: Run, per: int, j: Value, panel: Value, k: Value, z: int, row: Value) -> Value:
        """Where the list of addresses is that a tile asks for."""
        b, depth, size = self.b, self.plan.depth, self.size
        places, count = b.offset(self.scratch, self.layout.places), ahead.rows
        if self.a_is_far:
            self.a_rows.list(row + z, row + 2 * z, k * size + j * self.share(per), count, places)
            return places
        tiles, done = b.sub(self.end, self.begin) * per, b.sub(row, self.begin) * per + j * z
        length, following = per * run.columns, k + depth
        rows, pieces = self.parts(run, per, z)
        low, high = (b.idiv(n * depth, tiles) + following for n in (done, done + z))
        self.b_rows.list(low, high, (panel * run.columns + run.start) * size, rows if pieces else count, places)
        if pieces:
            total = -(-depth * self.spec.M // length)
            block = Rows(b, self.kind, self.at(self.a, (following, self.spec.M)), length, total, None, None)
            low, high = (b.idiv(n * total, tiles) for n in (done, done + z))
            block.list(low, high, b.i64(0), count - rows, b.offset(places, rows * BYTES["ptr"]))
        return places

    def row_of_tiles(
        self, run: Run, packed: Value, per: int, panel: Value, panels: Value, k: Value, depth: Value, z: int, row: Value
    ) -> None:
        """Tiles side by side: one strip of A with some panels of a run."""
        b, spec, plan = self.b, self.spec, self.plan
        a, strides = self.at(self.a, (row, spec.a_strides[0]), (k, spec.a_strides[1])), spec.a_strides
        if spec.a_index:
            a = b.offset(self.scratch, self.layout.rows)
            self.a_rows.list(row, row + z, k * self.size, z, a)
        b_k = run.stride if plan.pack else spec.b_strides[0]
        more = {"depth": depth}
        if plan.zeros == "a":
            more = self.steps_of_a(a, k, depth, z)

        ahead = self.ahead(run, per, z)
        listed = spec.a_index is not None, plan.b_listed(spec)

        def tile(finish: Finish) -> Tile:
            packed = plan.pack is not None
            return Tile(self.kind, z, run.pieces, strides, b_k, packed, plan.chains, finish, ahead, *listed, plan.zeros)

        blocked, partial = plan.depth < spec.K, self.layout.row
        with b.loop(0, panels) as j:
            column = (panel + j) * run.columns + run.start
            if plan.pack:
                p = b.offset(packed, j * (plan.depth * run.stride * self.size))
            elif plan.b_listed(spec):
                p = self.listed()
            else:
                p = self.at(self.p, (k, spec.b_strides[0]), (column, spec.b_strides[1]))
            if ahead:
                more["places"] = self.announce(ahead, run, per, j, panel, k, z, row)
            if plan.zeros == "b":
                steps, _ = self.steps_at(j)
                more |= {"depth": b.load(steps, "i64"), "steps": b.offset(steps, BYTES["i64"])}
            if not blocked:
                self.call(tile(self.finish()), a, p, row, column, **more)
                return
            more["flag"] = b.select(k > 0, b.i64(1), 0)
            if not partial:
                finish = self.finish(add="always" if spec.accumulate else "flag")
                self.call(tile(finish), a, p, row, column, **more)
                return
            sums = b.offset(self.scratch, self.layout.partial)
            sums = self.at(sums, (row, partial), (column, 1))
            last = k >= spec.K - plan.depth
            with b.if_(b.not_(last)):
                finish = Finish((0, 0), partial, last=False, extras=len(spec.extras))
                self.call(tile(finish), a, p, row, column, partial=sums, **more)
            with b.if_(last):
                self.call(tile(self.finish(partial=partial)), a, p, row, column, partial=sums, **more)

    def listed(self) -> Value:
        """Where the addresses of the rows of B are, from the first step of the block on."""
        return self.b.offset(self.scratch, self.layout.b_rows)

    # ---- zeros left out
    @property
    def flag(self) -> Value:
        """Where it is noted whether the operand that zeros are multiplied with has infinities or NaN."""
        return self.b.offset(self.scratch, self.layout.flag)

    def look_for_infinite(self) -> None:
        """Forget what is noted, and look through what is not going to be packed."""
        b, spec = self.b, self.spec
        b.store(b.i64(0), self.flag)
        if self.plan.zeros == "b":
            first, end = self.steps or (b.i64(0), b.i64(spec.K))
            start, strides = self.at(self.a, (first, spec.a_strides[1])), spec.a_strides[::-1]
            sizes = b.sub(end, first), b.i64(spec.M)
        elif self.plan.pack == "turn":  # which looks
            return
        else:
            start, strides, sizes = self.p, spec.b_strides, (b.i64(spec.K), b.i64(spec.N))
        if strides[1] != 1:
            strides, sizes = strides[::-1], sizes[::-1]
        self.note_infinite(start, sizes[0], strides[0], sizes[1])

    def note_infinite(self, start: Value, rows: Value, stride: int, columns: Value) -> None:
        """Note whether there are infinities or NaN in some rows, ``stride`` elements apart."""
        b = self.b
        look = gemm_finite.note_infinite(b.module, self.kind)
        b.call(look, start, rows, b.i64(stride * self.size), columns, self.flag)

    def steps_at(self, j: Value) -> tuple[Value, Value]:
        """The list of steps of the panel at place j, which begins with their number; whether all are to be taken."""
        everything = self.b.load(self.flag, "i64")
        return self.b.offset(self.scratch, j * self.layout.list + self.layout.steps), everything

    def steps_of_a(self, rows: Value, k: Value, depth: Value, z: int) -> dict[str, Value]:
        """The steps that a strip of A takes: where they are listed, and how many."""
        b = self.b
        steps, everything = self.steps_at(b.i64(0))
        listed = self.spec.a_index is not None
        f = gemm_zeros.steps_of_rows(b.module, self.kind, z, listed)
        stride = b.i64(self.spec.a_strides[0] * self.size)
        found = b.call(f, rows, stride, depth, everything, steps, returns="i64")
        assert found is not None
        return {"depth": found, "steps": steps}

    # ---- dot
    def dot(self) -> None:
        """Tiles that run along k in both operands."""
        b, spec, plan = self.b, self.spec, self.plan
        p = self.p
        if plan.pack:
            p = self.scratch
            self.pack_any(self.p, p, b.i64(spec.K), 1, 1)
        for z, low, high in self.heights():
            with b.loop(low, high, z) as row:
                a = self.at(self.a, (row, spec.a_strides[0]))
                for run in plan.runs:
                    with b.loop(0, run.count) as j:
                        column = j * run.columns + run.start
                        tile = DotTile(
                            self.kind, z, run.columns, spec.K, spec.a_strides[0], spec.b_strides[1], self.finish(),
                            self.a_is_far and run is plan.runs[-1],
                        )  # fmt: skip
                        self.call(tile, a, self.at(p, (column, spec.b_strides[1])), row, column)

    # ---- column
    def column(self) -> None:
        """C and A as vectors along the rows, a scalar of B for each k."""
        b, spec = self.b, self.spec
        width = b.target.width(self.size)
        stride = spec.c_strides[0]
        finish = self.finish(turned=True)
        finish = Finish((stride, stride), add=finish.add, epilogue=finish.epilogue, extras=finish.extras, turned=True)
        low, most = self.begin, self.plan.rows
        sizes = {z for z in (most, width, max(1, width // 4), *exact(spec.M % most), 1) if z <= spec.M}
        for z in sorted(sizes, reverse=True):
            high = b.sub(self.end, b.irem(b.sub(self.end, low), z)) if z > 1 else self.end
            w = min(z, width)
            pieces = tuple(Piece(i, w, w) for i in range(0, z, w))
            tile = Tile(
                self.kind, 1, pieces, (0, spec.b_strides[0]), spec.a_strides[1], False, self.plan.chains, finish
            )
            with b.loop(low, high, z) as row:
                self.call(tile, self.p, self.at(self.a, (row, 1)), row, b.i64(0), depth=b.i64(spec.K))
            low = high
