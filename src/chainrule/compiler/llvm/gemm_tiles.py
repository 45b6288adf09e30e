"""The tile functions of matrix products: the part of C that stays in registers while k runs.

A tile function is made once per module for each :class:`Tile` (or :class:`DotTile`), whatever products call it. All
take ``(A, B, C, P, depth, flag, row, column, Q, S, extras...)``: addresses of the first elements of the operands, the
number of steps of k, whether to add what is at the destination, the tile's place for the epilogue, a list of addresses
of what is needed later, and a list of the steps of k, if not all of them are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chainrule.compiler.llvm.builder import Builder, Module
from chainrule.compiler.llvm.gemm_plan import Epilogue, Piece, exact
from chainrule.compiler.llvm.values import BYTES, Value

#: a step of k in a list
STEP = "i32"


@dataclass(frozen=True)
class Finish:
    """What becomes of the sums.

    Attributes:
        c: strides of C in elements.
        partial: row stride of the partial sums at P, or 0: they are in C or there are none.
        last: apply the epilogue and store to C; otherwise store to P.
        add: "never", "always" or "flag" (where the argument ``flag`` is not 0): whether to add what is in C.
        epilogue: see :class:`~chainrule.compiler.llvm.gemm_plan.ProductSpec`; ``extras``: number of extra pointers.
        turned: the vectors lie along the rows of C (then ``c`` is the stride from lane to lane, twice).
    """

    c: tuple[int, int]
    partial: int = 0
    last: bool = True
    add: str = "never"
    epilogue: Epilogue | None = None
    extras: int = 0
    turned: bool = False


@dataclass(frozen=True)
class Ahead:
    """What a tile asks the second-level cache for while it computes.

    Each of its first ``steps`` steps asks for ``each`` lines. Line n is one of row n >> ``shift`` of a list of
    addresses, where lines follow each other up to byte ``last``.
    """

    steps: int
    each: int
    shift: int
    last: int

    @property
    def rows(self) -> int:
        """How many addresses the steps look at."""
        return ((self.steps * self.each - 1) >> self.shift) + 1


@dataclass(frozen=True)
class Tile:
    """An outer tile: ``rows`` of A times ``pieces`` of a row of B, for each k.

    Strides in elements: ``a`` from row to row and from k to k + 1, ``b_k`` from k to k + 1. ``packed``: B is in a
    panel. ``ahead``: what to ask for meanwhile. ``a_listed``: at A are the addresses of its rows instead; ``b_listed``:
    at B those of its rows, of which the tile takes the columns from ``column`` on. ``zeros``: of which operand zeros
    are left out: the tile takes ``depth`` steps from a list; of "b", the panel has the rows of these steps alone.
    """

    kind: str
    rows: int
    pieces: tuple[Piece, ...]
    a: tuple[int, int]
    b_k: int
    packed: bool
    chains: int
    finish: Finish
    ahead: Ahead | None = None
    a_listed: bool = False
    b_listed: bool = False
    zeros: str = ""


@dataclass(frozen=True)
class DotTile:
    """A dot tile: ``rows`` of A and ``columns`` of B, both contiguous along k; K steps, ``a`` and ``b_n`` apart.

    With ``ahead`` it asks for the same part of the ``rows`` that follow meanwhile.
    """

    kind: str
    rows: int
    columns: int
    K: int
    a: int
    b_n: int
    finish: Finish
    ahead: bool = False


def tile_function(module: Module, tile: Tile | DotTile) -> str:
    """The name of the function of a tile, made at first use."""
    made: dict[Tile | DotTile, str] = vars(module).setdefault("product_tiles", {})  # lives and dies with the module
    if tile not in made:
        name = f"product_tile{len(made)}"
        numbers = dict.fromkeys(("depth", "flag", "row", "column"), "i64")
        extras = {f"extra{i}": "ptr" for i in range(tile.finish.extras)}
        operands, lists = (dict.fromkeys(names, "ptr") for names in ("ABCP", "QS"))
        arguments: dict[str, Any] = {**operands, **numbers, **lists, **extras}
        with module.function(name, internal=True, noalias=False, inline=False, **arguments) as b:
            if isinstance(tile, Tile):
                _outer(b, tile)
            else:
                _dot(b, tile)
        made[tile] = name
    return made[tile]


def _outer(b: Builder, tile: Tile) -> None:
    kind, size, masked = tile.kind, BYTES[tile.kind], b.target.has_avx512f
    pieces, per_row = tile.pieces, len(tile.pieces)
    a, p, _, _, depth, _, _, column = b.args[:8]
    masks = [b.tail_mask(q.lanes, q.width) if q.lanes < q.width and not tile.packed else None for q in pieces]

    places = [b.pointer(a, i) for i in range(tile.rows)] if tile.a_listed else []

    def step(pa: Value, pb: Value, sums: Sequence[Value]) -> list[Value]:
        if tile.b_listed:
            pb = b.at(b.load(pb, "ptr"), column, kind)
        row = [b.load(b.at(pb, q.offset, kind), kind, q.width, mask=m) for q, m in zip(pieces, masks, strict=True)]
        new: list[Value] = []
        for i in range(tile.rows):
            x = b.load(b.offset(places[i], pa) if tile.a_listed else b.offset(pa, i * tile.a[0] * size), kind)
            wide = {w: b.splat(x, w) for w in dict.fromkeys(q.width for q in pieces)}
            new += [
                b.fma(wide[q.width], y, sums[i * per_row + j]) for j, (q, y) in enumerate(zip(pieces, row, strict=True))
            ]
        return new

    zeros = [b.zero(kind, q.width) for q in pieces] * tile.rows
    n, chains = len(zeros), tile.chains
    a_step, b_step = tile.a[1] * size, BYTES["ptr"] if tile.b_listed else tile.b_k * size
    advance = b.add if tile.a_listed else b.offset  # pa: bytes into each row, or an address
    a = b.i64(0) if tile.a_listed else a

    def taken(n: Value, pb: Value) -> tuple[Value, Value]:
        """Where the operands are at the step that is number n of the list; ``pb``: in a panel of these steps alone."""
        k = b.cast(b.load(b.at(b.args[9], n, STEP), STEP), "i64")
        return advance(a, k * a_step), b.offset(p, k * b_step) if tile.zeros == "a" else pb

    # the place of a step is known a round before: loads that wait for it would be moved together, and spill sums
    start: Sequence[Value] = [*(taken(b.i64(0), p) if tile.zeros else (a, p)), *zeros]
    if chains > 1:
        whole = b.and_(depth, -chains)
        with b.loop_carrying(0, whole, chains, [a, p, *zeros * chains]) as k:
            pa, pb = k.values[:2]
            sums: list[Value] = []
            for c in range(chains):
                sums += step(pa, pb, k.values[2 + c * n : 2 + (c + 1) * n])
                pa, pb = advance(pa, a_step), b.offset(pb, b_step)
            k.next(pa, pb, *sums)
        done = k.results[2:]
        while len(done) > n:
            half = len(done) // 2
            done = [b.add(x, y) for x, y in zip(done[:half], done[half:], strict=True)]
        start, first = [*k.results[:2], *done], whole
    else:
        first = b.i64(0)

    def steps(low: Value, high: Value, start: Sequence[Value], ahead: Ahead | None) -> Sequence[Value]:
        with b.loop_carrying(low, high, 1, start) as k:
            pa, pb = k.values[:2]
            if ahead is not None:
                _ask(b, ahead, b.args[8], k.index)
            new = step(pa, pb, k.values[2:])
            later = b.offset(pb, b_step)
            k.next(*(taken(k.index + 1, later) if tile.zeros else (advance(pa, a_step), later)), *new)
        return k.results

    if tile.ahead is not None:
        asked = b.minimum(depth, tile.ahead.steps)
        start, first = steps(first, asked, start, tile.ahead), asked
    sums = steps(first, depth, start, None)[2:]
    rows = [sums[i * per_row : (i + 1) * per_row] for i in range(tile.rows)]
    _finish(b, kind, rows, pieces, tile.finish, masked)


def _ask(b: Builder, ahead: Ahead, places: Value, k: Value) -> None:
    """Ask for step k's lines of what is needed later."""
    for n in range(ahead.each):
        line = k if ahead.each == 1 else k * ahead.each + n
        place = b.load(b.at(places, b.lshr(line, ahead.shift), "ptr"), "ptr")
        byte = b.and_(line, (1 << ahead.shift) - 1) * 64
        b.prefetch(b.offset(place, b.select(byte < ahead.last, byte, ahead.last)), locality=2)


def _dot(b: Builder, tile: DotTile) -> None:
    kind, size = tile.kind, BYTES[tile.kind]
    width = b.target.width(size)
    a, p = b.args[:2]
    full, tail = divmod(tile.K, width)

    def step(at: Value, lanes: int, sums: Sequence[Value]) -> list[Value]:
        def load(base: Value, offset: int) -> Value:
            q = b.at(b.offset(base, offset * size), at, kind)
            if lanes == width:
                return b.load(q, kind, width)
            if b.target.has_avx2:
                return b.load(q, kind, width, mask=b.tail_mask(lanes, width))
            v = b.zero(kind, width)
            for i in range(lanes):
                v = b.insert(v, b.load(b.at(q, i, kind), kind), i)
            return v

        ys = [load(p, j * tile.b_n) for j in range(tile.columns)]
        new: list[Value] = []
        for i in range(tile.rows):
            x = load(a, i * tile.a)
            if tile.ahead:
                b.prefetch(b.at(b.offset(a, (tile.rows + i) * tile.a * size), at, kind), locality=2)
            new += [b.fma(x, y, sums[i * tile.columns + j]) for j, y in enumerate(ys)]
        return new

    sums = [b.zero(kind, width)] * (tile.rows * tile.columns)
    if full:
        with b.loop_carrying(0, full * width, width, sums) as k:
            k.next(*step(k.index, width, k.values))
        sums = k.results
    if tail:
        sums = step(b.i64(full * width), tail, sums)
    if tile.columns > 1:
        part = min(width, tile.columns)
        pieces = tuple(Piece(j, part, part) for j in range(0, tile.columns, part))
        rows = [[_add_lanes(b, sums[i * tile.columns + q.offset :][:part]) for q in pieces] for i in range(tile.rows)]
        _finish(b, kind, rows, pieces, tile.finish, b.target.has_avx512f)
        return
    # one column: the rows side by side are the lanes
    pieces, at, row = (), 0, []
    for part in exact(tile.rows):
        for n in [width] * (part // width) or [part]:
            pieces += (Piece(at, n, n),)
            row.append(_add_lanes(b, sums[at : at + n]))
            at += n
    stride = tile.finish.c[0]
    finish = replace(tile.finish, c=(stride, stride), turned=True)
    _finish(b, kind, [row], pieces, finish, b.target.has_avx512f)


def _add_lanes(b: Builder, vectors: Sequence[Value]) -> Value:
    """A vector whose lane i is the sum of the lanes of vector i, added in the order of ``b.reduce_sum``.

    Their number is a power of two, at most their width.
    """
    held, rows = 1, list(vectors)
    while rows[0].width > held:
        lanes = rows[0].width // held  # partial sums of each of the ``held`` results in a vector
        half = lanes // 2
        low = [g * lanes + i for g in range(held) for i in range(half)]
        high = [i + half for i in low]
        if len(rows) > 1:
            n = rows[0].width
            both = [(x, y) for x, y in zip(rows[0::2], rows[1::2], strict=True)]
            rows = [
                b.add(b.shuffle(x, y, low + [n + i for i in low]), b.shuffle(x, y, high + [n + i for i in high]))
                for x, y in both
            ]
            held *= 2
        else:
            rows = [b.add(b.shuffle(rows[0], None, low), b.shuffle(rows[0], None, high))]
    return rows[0]


def _split(b: Builder, value: Value, piece: Piece, masked: bool) -> list[tuple[int, Value, Value | None]]:
    """The lanes of a piece that exist, as (lane, vector, mask): one masked vector, or vectors of powers of two."""
    if piece.lanes == piece.width:
        return [(0, value, None)]
    if masked and piece.lanes & (piece.lanes - 1):
        return [(0, value, b.tail_mask(piece.lanes, piece.width))]
    parts: list[tuple[int, Value, Value | None]] = []
    at = 0
    for n in exact(piece.lanes):
        parts.append((at, b.shuffle(value, None, range(at, at + n)), None))
        at += n
    return parts


def _finish(
    b: Builder, kind: str, rows: Sequence[Sequence[Value]], pieces: Sequence[Piece], finish: Finish, masked: bool
) -> None:
    """Add what was there before, apply the epilogue, store."""
    size = BYTES[kind]
    _, _, c, partial, _, flag, row, column = b.args[:8]
    extras = b.args[10:]
    stride = finish.c[1]

    def places(i: int, q: Piece) -> Value:
        return b.offset(c, (i * finish.c[0] + q.offset * stride) * size)

    def sums_at(i: int, q: Piece) -> Value:
        return b.offset(partial, (i * finish.partial + q.offset) * size)

    if not finish.last:  # into the partial sums, which have room for whole vectors
        flat = [(v, sums_at(i, q)) for i, vs in enumerate(rows) for v, q in zip(vs, pieces, strict=True)]
        new = b.if_else(
            b.ne(flag, 0), lambda: [b.add(b.load(p, v.kind, v.width), v) for v, p in flat], lambda: [v for v, _ in flat]
        )
        for v, (_, p) in zip(new, flat, strict=True):
            b.store(v, p)
        return
    parts: list[tuple[int, int, Value, Value | None, Value]] = []
    for i, vs in enumerate(rows):
        for v, q in zip(vs, pieces, strict=True):
            if finish.partial:
                v = b.add(b.load(sums_at(i, q), kind, q.width), v)
            for lane, part, mask in _split(b, v, q, masked and stride == 1):
                at = b.offset(places(i, q), lane * stride * size)
                parts.append((i, q.offset + lane, part, mask, at))

    def added() -> list[Value]:
        return [b.add(b.load(p, kind, v.width, stride=stride, mask=m), v) for _, _, v, m, p in parts]

    values = [v for _, _, v, _, _ in parts]
    if finish.add == "always":
        values = added()
    elif finish.add == "flag":
        values = b.if_else(b.ne(flag, 0), added, lambda: list(values))
    for (i, offset, _, mask, at), v in zip(parts, values, strict=True):
        if finish.epilogue is None:
            b.store(v, at, stride=stride, mask=mask)
        elif finish.turned:
            for lane in range(v.width):
                x = finish.epilogue(b, b.extract(v, lane), row + (offset + lane), column, 1, None, extras)
                b.store(x, b.offset(at, lane * stride * size))
        else:
            x = finish.epilogue(b, v, row + i, column + offset, v.width, mask, extras)
            b.store(x, at, stride=stride, mask=mask)
