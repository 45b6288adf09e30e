"""Where a matrix product keeps what in its scratch memory."""

from __future__ import annotations

from chainrule.compiler.llvm.gemm_plan import COSTS, Plan, ProductSpec, even
from chainrule.compiler.llvm.gemm_tiles import STEP
from chainrule.compiler.llvm.target import Target
from chainrule.compiler.llvm.values import BYTES


class Layout:
    """What lies where in scratch, in bytes: panels of B, partial sums."""

    def __init__(self, spec: ProductSpec, plan: Plan, target: Target, keep: bool) -> None:
        size, costs = BYTES[spec.dtype], COSTS[target.level]
        self.chunks: list[int] = []  # panels of each run that are packed at a time
        panels = 0
        blocked = plan.depth < spec.K
        once = plan.zeros == "a" or spec.M * spec.K * size > 2 * costs.far
        near = costs.most if once else costs.near
        for run in plan.runs:
            fit = max(1, near // (plan.depth * run.stride * size))
            per = even(run.count, min(fit, run.count))
            self.chunks.append(per)
            if plan.pack:
                panels = max(panels, per * plan.depth * run.stride * size)
        everything = all(run.count == per for run, per in zip(plan.runs, self.chunks, strict=True))
        #: whether all of B has its place, each run's panels after those of the run before
        self.keeps = keep and plan.family == "outer" and bool(plan.pack) and not blocked and everything
        self.runs = [0] * len(plan.runs)
        if self.keeps:
            sizes = [run.count * plan.depth * run.stride * size for run in plan.runs]
            self.runs, panels = [sum(sizes[:i]) for i in range(len(sizes))], sum(sizes)
        self.partial = -(-panels // 64) * 64
        self.row = sum(r.count * r.stride for r in plan.runs) if blocked and spec.epilogue else 0
        #: addresses of the rows of A of a tile, if they are found by index
        self.rows = -(-(self.partial + spec.M * self.row * size) // 64) * 64
        #: addresses that a tile asks for: no more of them than steps of k, and one
        self.places = self.rows + (plan.rows * BYTES["ptr"] if spec.a_index else 0)
        #: addresses of the rows of B in a block of k, if tiles take them where they are
        self.b_rows = self.places + ((plan.depth + 1) * BYTES["ptr"] if plan.family == "outer" else 0)
        self.total = self.b_rows + (plan.depth * BYTES["ptr"] if plan.b_listed(spec) else 0)
        #: where zeros are left out: whether the other operand keeps them all, and lists of steps: how many, which
        self.flag = self.steps = self.total
        self.list = 0
        if plan.zeros:
            self.steps = self.flag + BYTES["i64"]
            room = plan.depth + target.width(size)  # whole vectors are written, and one step more is read
            self.list = BYTES["i64"] + -(-room * BYTES[STEP] // 8) * 8
            self.total = self.steps + self.list * (max(self.chunks) if plan.zeros == "b" else 1)
