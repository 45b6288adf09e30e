"""Passes: functions from a graph to a graph, each with a name and a reason; timed, and verified after each in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from chainrule.compiler.passes.control import prune
from chainrule.compiler.passes.decompose import decompose
from chainrule.compiler.passes.sharing import share
from chainrule.compiler.passes.simplify import deduplicate, fold, simplify
from chainrule.compiler.passes.split import split_sums
from chainrule.ir.graph import Graph, verify

__all__ = ["PIPELINE", "Pass", "Report", "optimize"]


class Pass(NamedTuple):
    """One step of the pipeline."""

    name: str
    reason: str
    run: Callable[[Graph], Graph]


class Report(NamedTuple):
    """What a pass did: seconds, and the number of instructions before and after."""

    name: str
    reason: str
    seconds: float
    before: int
    after: int


PIPELINE = (
    Pass("drop dead code", "what no output needs, in loops and branches too, is not worth optimizing", prune),
    Pass("decompose", "fused eager ops become primitives, so that their parts can be shared and fused anew", decompose),
    Pass("fold constants", "what is known when compiling is computed once", fold),
    Pass("simplify", "identities that hold for every value cost nothing at run time", simplify),
    Pass("deduplicate", "an expression that forward and backward share is computed once", deduplicate),
    Pass("share among loops", "a backward loop need not compute again what the forward loop has had", share),
    Pass("drop dead code", "what the passes above made superfluous", prune),
    Pass("split long sums", "sums over a large batch by parts let its rows pass while in a cache", split_sums),
)


def optimize(
    graph: Graph,
    pipeline: tuple[Pass, ...] = PIPELINE,
    check: bool = False,
    show: Callable[[str, Graph], None] | None = None,
) -> tuple[Graph, list[Report]]:
    """Run the passes in order.

    Args:
        graph: a verified graph.
        pipeline: which passes.
        check: verify after each pass; a violation names the pass.
        show: called with each pass's name and its result.
    """
    reports = []
    for step in pipeline:
        start = time.perf_counter()
        new = step.run(graph)
        reports.append(
            Report(step.name, step.reason, time.perf_counter() - start, len(graph.instructions), len(new.instructions))
        )
        if check:
            try:
                verify(new)
            except RuntimeError as error:
                error.add_note(f"after the pass {step.name!r}")
                raise
        if show is not None:
            show(step.name, new)
        graph = new
    return graph, reports
