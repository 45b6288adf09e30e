"""Writing in place: which outputs of a plan may be computed straight into the memory of the inputs they replace."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.kernels import OUTPUT, Buffer, Call, Check, Kernel, Loop, Plan, Product, Routine


def in_place(plan: Plan, pairs: Sequence[tuple[int, int]]) -> dict[Buffer, Buffer]:
    """Output buffers that may share the memory of an input buffer, for pairs (input number, output number).

    An output may overwrite an input if the kernel that writes it is the last to read the input, and reads from it only
    the very element that it is about to write; if no check or reference kernel comes later, which could fail and leave
    the program half done; and if the input itself is not returned.
    """
    returned = {layout.buffer for layout in plan.outputs}
    last_failure = max((n for n, k in enumerate(plan.kernels) if may_fail(k)), default=-1)
    found: dict[Buffer, Buffer] = {}
    for source, target in pairs:
        old, new = plan.inputs[source], plan.outputs[target].buffer
        if new.role != OUTPUT or new in found or old in returned or old in found.values():
            continue
        writers = [n for n, k in enumerate(plan.kernels) if new in _written(k)]
        readers = [n for n, k in enumerate(plan.kernels) if old in _read(k)]
        if len(writers) != 1 or writers[0] <= last_failure or (readers and max(readers) > writers[0]):
            continue
        if plan.chunked is not None and plan.chunked.first <= writers[0] < plan.chunked.end:
            continue  # others of its stretch read on
        if readers and max(readers) == writers[0] and not _same_element(plan.kernels[writers[0]], old, new):
            continue
        found[new] = old
    return found


def may_fail(k: Kernel) -> bool:
    if isinstance(k, Routine) and k.control is not None:
        return any(may_fail(inner) for code in k.control.codes for inner in code.native.plan.kernels)
    return isinstance(k, Check | Call) or (isinstance(k, Routine) and k.checks)


def _written(k: Kernel) -> set[Buffer]:
    if isinstance(k, Loop):
        return {s.access.buffer for s in k.stores} | {r.access.buffer for r in k.reductions}
    if isinstance(k, Product):
        return {a.buffer for a in k.writes}
    return {layout.buffer for layout in k.outputs} if isinstance(k, Call | Routine) else set()


def _read(k: Kernel) -> set[Buffer]:
    if isinstance(k, Loop):
        return {a.buffer for a in k.loads.values()}
    if isinstance(k, Product):
        return {a.buffer for a, _ in k.reads}
    if isinstance(k, Check):
        return {k.access.buffer}
    return {layout.buffer for layout in k.inputs}


def _same_element(k: Kernel, old: Buffer, new: Buffer) -> bool:
    """Whether a loop (or what follows a product) that writes ``new`` reads from ``old`` only at the point it writes."""
    if isinstance(k, Product) and k.epilogue is not None:
        if old in _read(k._replace(epilogue=None)):
            return False
        k = k.epilogue
    if not isinstance(k, Loop):
        return False
    stores = [s.access for s in k.stores if s.access.buffer is new]
    if len(stores) != 1 or any(r.access.buffer is new for r in k.reductions):
        return False
    at = stores[0]
    return all((a.offset, a.strides) == (at.offset, at.strides) for a in k.loads.values() if a.buffer is old)
