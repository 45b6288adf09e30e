"""Which code a matrix product gets: the specification, the table of costs, and the choice made from them.

Three families of code:

- ``outer``: the tile C[z rows, p vectors] stays in registers while k runs; each step takes p vectors of a row of B and
  z scalars of A. B may be packed into panels [k][p W].
- ``dot``: both operands run along k; z x r vectors of partial sums, added up across lanes at the end.
- ``column``: N = 1 and A runs along its rows: the rows are the lanes.

The order in which one element's K products are added is a property of the plan, the same for every tile of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from chainrule.compiler.llvm.target import Target
from chainrule.compiler.llvm.values import BYTES

#: ``epilogue(b, value, row, column, width, mask, extras) -> value to store``
Epilogue = Callable[..., Any]


@dataclass(frozen=True)
class Index:
    """Rows chosen by index: of what integer ``kind``, how many elements apart, of a table of ``size`` rows.

    An index -size <= i < 0 counts from the end; others out of [0, size) must not occur. ``batch``: the distance, in
    elements, of the indices of two matrices along each batch dimension.
    """

    kind: str
    stride: int
    size: int
    batch: tuple[int, ...] = ()


@dataclass(frozen=True)
class ProductSpec:
    """C[M, N] = A[M, K] B[K, N], for each matrix of a batch.

    Attributes:
        M, N, K: sizes, zero allowed.
        dtype: "f32" or "f64".
        a_strides, b_strides, c_strides: distance of rows and of columns, counted in elements. A zero repeats an
            operand's element; the elements of C must be distinct.
        batch: sizes of the batch dimensions; none for a single product.
        a_batch, b_batch, c_batch: distance of the matrices along each batch dimension, in elements; 0 repeats.
        accumulate: add to what is in C.
        epilogue: what happens to each element before it is stored: called as ``epilogue(b, value, row, column, width,
            mask, extras)`` when code is made, with a vector of ``width`` neighbours in one row (first at ``row``,
            ``column``, both i64 values, counted within one matrix of the batch), the mask of the lanes that exist
            (None: all) and the extra pointers; returns the value to store and may load and store elsewhere. It must
            take any power of two as width and treat lanes independently. It may read C only through an extra pointer.
        extras: one entry per extra pointer: its distance along each batch dimension, in bytes.
        a_index: row i of A is row index[i] of the table at A; ``b_index``: row k of B is row index[k] of the table at
            B. Only for rows that are contiguous; all matrices of a batch have one table.
        block: the sums over k are computed in blocks of so many steps, some of which a call may add to what is in C
            (the first one overwrites it). It divides K; only without an epilogue. 0: as the plan has it, at once.
    """

    M: int
    N: int
    K: int
    dtype: str
    a_strides: tuple[int, int]
    b_strides: tuple[int, int]
    c_strides: tuple[int, int]
    batch: tuple[int, ...] = ()
    a_batch: tuple[int, ...] = ()
    b_batch: tuple[int, ...] = ()
    c_batch: tuple[int, ...] = ()
    accumulate: bool = False
    epilogue: Epilogue | None = None
    extras: tuple[tuple[int, ...], ...] = ()
    a_index: Index | None = None
    b_index: Index | None = None
    block: int = 0
    zeros: str = ""

    def __post_init__(self) -> None:
        if self.zeros not in ("", "a", "b"):
            raise ValueError(f"zeros of 'a' or 'b' can be left out, or none (''); got {self.zeros!r}")
        if self.dtype not in ("f32", "f64"):
            raise ValueError(f"a product of 'f32' or 'f64' expected, got dtype {self.dtype!r}")
        if min(self.M, self.N, self.K, *self.batch, 0) < 0:
            raise ValueError(f"sizes are not negative; got M={self.M} N={self.N} K={self.K} batch={self.batch}")
        for name in ("a_batch", "b_batch", "c_batch"):
            if len(getattr(self, name)) != len(self.batch):
                raise ValueError(f"{name} needs a stride for each of the {len(self.batch)} batch dimensions")
        if any(len(e) != len(self.batch) for e in self.extras):
            raise ValueError(f"each extra pointer needs a stride for each of the {len(self.batch)} batch dimensions")
        for index, own in (
            (self.a_index, (self.a_strides, self.a_batch)),
            (self.b_index, (self.b_strides, self.b_batch)),
        ):
            if index is None:
                continue
            if own[0][1] != 1 or any(own[1]):
                raise ValueError(f"rows by index are contiguous rows of one table; got strides {own}")
            if len(index.batch) != len(self.batch):
                raise ValueError(f"indices need a stride for each of the {len(self.batch)} batch dimensions")
        if self.block and (self.K % self.block or self.epilogue is not None or self.accumulate):
            raise ValueError(f"blocks of {self.block} steps need K divisible by them and no epilogue; got K = {self.K}")

    @classmethod
    def contiguous(
        cls, M: int, N: int, K: int, dtype: str = "f32", *, ta: bool = False, tb: bool = False, **more: Any
    ) -> ProductSpec:
        """Row-major operands without gaps; ``ta``, ``tb``: A is stored as [K, M], B as [N, K]."""
        a, b = (1, M) if ta else (K, 1), (1, K) if tb else (N, 1)
        return cls(M, N, K, dtype, a, b, (N, 1), **more)

    @property
    def batches(self) -> int:
        """Number of matrices."""
        return prod(self.batch)

    def merged(self) -> ProductSpec:
        """The same product with as few batch dimensions as the strides allow."""
        indices = [i for i in (self.a_index, self.b_index) if i is not None]
        beside = [*self.extras, *(i.batch for i in indices)]
        dims: list[tuple[int, ...]] = []
        for size, *strides in zip(self.batch, self.a_batch, self.b_batch, self.c_batch, *beside, strict=True):
            if size == 1:
                continue
            if dims and all(outer == inner * size for outer, inner in zip(dims[-1][1:], strides, strict=True)):
                dims[-1] = (dims[-1][0] * size, *strides)
            else:
                dims.append((size, *strides))
        M = self.M
        if dims and self.epilogue is None and not indices:
            size, a, b, c = dims[-1][:4]
            if b == 0 and a == M * self.a_strides[0] and c == M * self.c_strides[0]:
                M, dims = M * size, dims[:-1]
        columns = [tuple(d[i] for d in dims) for i in range(4 + len(beside))]
        batch, a_batch, b_batch, c_batch, *rest = columns
        moved = iter(rest[len(self.extras) :])
        a_index, b_index = (i and replace(i, batch=next(moved)) for i in (self.a_index, self.b_index))
        return replace(
            self, M=M, batch=batch, a_batch=a_batch, b_batch=b_batch, c_batch=c_batch,
            extras=tuple(rest[: len(self.extras)]), a_index=a_index, b_index=b_index,
        )  # fmt: skip


@dataclass(frozen=True)
class Costs:
    """What a processor level can do; times in cycles, sizes in bytes.

    Attributes:
        tiles: most rows of an outer tile for each width in vectors, so that the accumulators stay in registers.
        dots: (rows, columns) of dot tiles.
        multiply, load, latency: of a multiply-add of vectors; of a vector load or broadcast (a quarter of which does
            not hide behind the arithmetic); of a chain's step.
        call, store: of entering a tile; of finishing one vector of it.
        reduce: of adding up the lanes of one vector of partial sums.
        look: of looking whether a step can be left out, and of finding those that are not in a list.
        pack, turn: of copying one vector of B into a panel; the same with transposition.
        near, far: bytes of B that stay close while all rows pass (half of a level-2 cache; more is packed by chunks);
            bytes of B up to which rows are used where they are.
        most: the same where A is larger than twice ``far``: it had better be read once.
        variety: cycles that each kind of tile beyond the first counts for (at most a fiftieth of the whole): it takes
            milliseconds to compile.
        depth: steps of k in a block, where there are more than two blocks of them.
        read, transfer: of reading a byte that other threads read too; of getting one that another thread has written.
        alias: where A is read down its columns, and these lie a multiple of 1 KiB apart, their lines compete for few
            places in the caches: a block of k of more than 128 steps reaches over this many bytes at most.
        scattered: whether tiles read rows of B that are found by index where they are, if B is not too large; else they
            are packed. (Narrow tiles read B so often that it had better lie together.)
    """

    tiles: dict[int, int]
    dots: tuple[tuple[int, int], ...]
    multiply: float
    load: float
    latency: float
    call: float
    store: float
    reduce: float
    pack: float
    turn: float
    look: float = 0.5
    near: int = 512 << 10
    far: int = 512 << 10
    most: int = 512 << 10
    variety: float = 20e3
    depth: int = 400
    read: float = 0.05
    transfer: float = 0.5
    alias: int = 256 << 10
    scattered: bool = False


_WIDE = {1: 24, 2: 14, 3: 8, 4: 6, 8: 2, 16: 1}
_WIDE_DOTS = ((1, 8), (2, 8), (3, 4), (4, 4), (5, 4), (6, 4))
_FEW, _FEW_DOTS = {1: 12, 2: 6, 4: 2, 8: 1}, ((1, 8), (2, 4))
#: The one place with numbers about processors. Measured on an AMD EPYC with AVX-512 (Zen 4), whole and cut down.
COSTS = {
    "avx512": Costs(
        _WIDE,
        _WIDE_DOTS,
        1.0,
        0.5,
        4.0,
        call=20.0,
        store=2.0,
        reduce=4.0,
        pack=3.0,
        turn=5.0,
        most=832 << 10,
        scattered=True,
    ),
    "neon": Costs(_WIDE, _WIDE_DOTS, 0.5, 0.5, 4.0, call=20.0, store=1.0, reduce=2.0, pack=2.0, turn=3.0),
    "avx2": Costs(_FEW, _FEW_DOTS, 0.5, 0.5, 4.0, call=20.0, store=1.0, reduce=3.0, pack=2.0, turn=4.0, far=256 << 10),
    "sse2": Costs(_FEW, _FEW_DOTS, 1.0, 0.5, 8.0, call=20.0, store=1.0, reduce=2.0, pack=2.0, turn=3.0, far=256 << 10),
}


@dataclass(frozen=True)
class Piece:
    """Lanes of a row of C held in one vector: ``lanes`` columns from ``offset`` of the panel, in ``width`` lanes."""

    offset: int
    width: int
    lanes: int


@dataclass(frozen=True)
class Run:
    """``count`` equal panels side by side: ``columns`` wide each, in ``stride`` lanes, from column ``start``."""

    start: int
    count: int
    columns: int
    stride: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Plan:
    """The code chosen for one product.

    Attributes:
        family: "outer", "dot", "column" or "none" (nothing to compute).
        rows: rows of a tile. ``smaller``: whether tiles of one row less are made too.
        runs: the panels of columns.
        pack: how B gets into scratch: None, "rows" (vector copies), "turn" (transposed) or "any" (element by element).
        depth: steps of k in a block.
        chains: independent sums over k of each element (k modulo chains), added at the end.
        zeros: of which operand, "a" or "b", tiles leave out the steps at which all they would take of it is zero.
        cost, packing: estimated cycles; those of them that copy B into scratch.
    """

    family: str
    rows: int = 1
    smaller: bool = False
    runs: tuple[Run, ...] = ()
    pack: str | None = None
    depth: int = 1
    chains: int = 1
    zeros: str = ""
    cost: float = 0.0
    packing: float = 0.0

    def b_listed(self, spec: ProductSpec) -> bool:
        """Whether tiles take the rows of B by their addresses: they are found by index, and not packed."""
        return self.family == "outer" and self.pack is None and spec.b_index is not None

    @property
    def by_columns(self) -> bool:
        """Whether calls may compute some of the columns, which takes panels of them."""
        return self.family == "outer"

    def __str__(self) -> str:
        panels = " + ".join(f"{r.count} x {r.columns}" for r in self.runs)
        packed = f", B packed ({self.pack})" if self.pack else ""
        zeros = f", zeros of {self.zeros.upper()} left out" if self.zeros else ""
        return f"{self.family}: {self.rows} rows, panels {panels}{packed}{zeros}"


def even(total: int, most: int) -> int:
    """The larger size when ``total`` is cut into as few near-equal parts of at most ``most`` as it takes."""
    return -(-total // -(-total // most)) if total else 1


def exact(lanes: int) -> list[int]:
    """Powers of two that sum to ``lanes``, the largest first."""
    return [1 << i for i in reversed(range(lanes.bit_length())) if lanes >> i & 1]


def _pieces(columns: int, width: int, packed: bool, masked: bool) -> tuple[Piece, ...]:
    full, tail = divmod(columns, width)
    pieces = [Piece(i * width, width, width) for i in range(full)]
    parts = exact(tail)
    if (tail and packed) or (len(parts) > 1 and masked):
        pieces.append(Piece(full * width, width, tail))
    else:
        at = full * width
        for part in parts:
            pieces.append(Piece(at, part, part))
            at += part
    return tuple(pieces)


def _runs(N: int, width: int, most: int, packed: bool, masked: bool) -> tuple[Run, ...]:
    """Panels of at most ``most`` vectors, near-equal, equal ones joined."""
    vectors = -(-N // width)
    count = -(-vectors // most)
    small, extra = divmod(vectors, count)
    runs: list[Run] = []
    start = 0
    for i in range(count):
        stride = (small + (i < extra)) * width
        columns = min(stride, N - start)
        if runs and runs[-1].columns == columns:
            runs[-1] = replace(runs[-1], count=runs[-1].count + 1)
        else:
            runs.append(Run(start, 1, columns, stride, _pieces(columns, width, packed, masked)))
        start += columns
    return tuple(runs)


def make_plan(spec: ProductSpec, target: Target) -> Plan:
    """The cheapest code for a product by the table of costs."""
    if not spec.M or not spec.N or not spec.batches:
        return Plan("none")
    costs, width = COSTS[target.level], target.width(BYTES[spec.dtype])
    indexed = spec.a_index is not None or spec.b_index is not None
    if (
        not indexed
        and not spec.block
        and spec.N == 1
        and spec.M > 1
        and spec.a_strides[0] == 1
        and spec.a_strides[1] != 1
    ):
        return Plan("column", rows=4 * width, depth=spec.K, chains=4)
    plans = [
        _outer(spec, target, costs, width, most, rows)
        for most, high in costs.tiles.items()
        for rows in _heights(spec.M, high)
    ]
    if (
        not indexed
        and not spec.block
        and width <= spec.K
        and spec.a_strides[1] == 1
        and (spec.b_strides[0] == 1 or spec.N == 1)
    ):
        shapes = ((8, 1),) if spec.N == 1 else costs.dots
        plans += [
            _dot(spec, costs, width, rows, columns) for high, columns in shapes for rows in _heights(spec.M, high)
        ]
    return min(plans, key=lambda p: p.cost)


def _step(costs: Costs, sums: int, loads: int) -> float:
    """Cycles of one step of k of a tile with ``sums`` accumulators."""
    return max(sums * costs.multiply, loads * costs.load, costs.latency) + loads * costs.load / 4


def _total(spec: ProductSpec, costs: Costs, cost: float, runs: Sequence[Run], smaller: bool) -> float:
    cost *= spec.batches
    return cost + min(costs.variety, cost / 50) * (len(runs) * (1 + smaller) - 1)


#: rows of a tile that leaves out zeros of A at least: with fewer, B comes from the second-level cache too often
LEAST_STRIP = 4


def _left(neighbours: int) -> float:
    """A guess at how many steps are left if those are left out at which so many neighbours are all zero.

    Half way between data without zeros and handwritten digits, where a fifth of the numbers is not zero: of those about
    0.4 of the steps are left for 6 neighbours in a row or as many images, 0.6 for 16, 0.7 for 48.
    """
    return 0.5 + 0.5 * neighbours / (neighbours + 8)


def _heights(M: int, most: int) -> set[int]:
    """Rows of a tile to consider: near-equal parts of M, and what divides M if not much less than the most."""
    low = -(-2 * most // 3)
    return {even(M, most)} | {z for z in range(low, most + 1) if M % z == 0}


def _outer(spec: ProductSpec, target: Target, costs: Costs, width: int, most: int, rows: int) -> Plan:
    M, N, K, size = spec.M, spec.N, spec.K, BYTES[spec.dtype]
    masked, block = target.has_avx512f, costs.depth
    apart = abs(spec.a_strides[1]) * size
    if apart and apart % 1024 == 0:
        block = min(block, max(128, costs.alias // apart))
    pack = None
    if spec.b_strides[1] != 1 and N > 1:
        pack = "turn" if spec.b_strides[0] == 1 and width <= K else "any"
    elif (
        (spec.b_index and not costs.scattered)
        or (N % width and not masked and M > 2 and N > 1)
        or (4 * rows <= M and K * N * size > costs.far)
        or spec.zeros == "b"
    ):
        pack = "rows"
    runs = _runs(N, width, most, pack is not None, masked)
    tiles = -(-M // rows)
    step = {None: 0.0, "rows": costs.pack, "turn": costs.turn, "any": 2.0 * width}[pack]
    few = rows * min(len(r.pieces) for r in runs) * costs.multiply < costs.latency
    chains = 4 if few and K >= 16 else 1
    along = {
        "a": spec.a_strides[1] == 1 and 1 in spec.b_strides and spec.b_index is None,
        "b": pack == "rows" and 1 in spec.a_strides and spec.a_index is None,
        "": False,
    }[spec.zeros]
    zeros = spec.zeros if along and chains == 1 and (rows >= LEAST_STRIP or spec.zeros == "b") else ""
    cost = packing = 0.0
    for run in runs:
        p = len(run.pieces)
        once = _step(costs, rows * p, rows + p)
        if zeros == "a":
            once = once * _left(rows) + costs.look
        elif zeros == "b":
            once *= _left(run.columns)
            packing += run.count * K * costs.look
        cost += run.count * (M / rows * K * once + tiles * costs.call + M * p * costs.store)
        packing += run.count * K * run.stride / width * step
    cost += packing
    depth = spec.block or (even(K, block) if 2 * block < K else K)
    smaller = M % rows != 0 and rows > 1
    return Plan(
        "outer", rows, smaller, runs, pack, depth=max(1, depth), chains=chains, zeros=zeros,
        cost=_total(spec, costs, cost, runs, smaller), packing=packing * spec.batches,
    )  # fmt: skip


def _dot(spec: ProductSpec, costs: Costs, width: int, rows: int, columns: int) -> Plan:
    M, N, K = spec.M, spec.N, spec.K
    runs: list[Run] = []
    start = 0
    for part in [columns] * (N // columns) + exact(N % columns):
        if runs and runs[-1].columns == part:
            runs[-1] = replace(runs[-1], count=runs[-1].count + 1)
        else:
            runs.append(Run(start, 1, part, part, ()))
        start += part
    tiles, steps, cost = -(-M // rows), -(-K // width), 0.0
    for run in runs:
        sums = rows * run.columns
        once = _step(costs, sums, rows + run.columns)
        cost += run.count * (M / rows * (steps * once + sums * costs.reduce) + tiles * costs.call)
    pack = "any" if spec.b_strides[0] != 1 else None
    cost += 2.0 * K if pack else 0.0
    smaller = M % rows != 0 and rows > 1
    return Plan("dot", rows, smaller, tuple(runs), pack, depth=K, cost=_total(spec, costs, cost, runs, smaller))
