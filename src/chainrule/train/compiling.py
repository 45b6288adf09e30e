"""Steps of a module as native code: what can be compiled, how a step is captured, and when it runs eagerly instead.

NOTE [compiled steps]. ``Trainer(compile="auto")`` runs the first step of a fit eagerly, so that what is made late is
made, then captures the whole step (forward, backward, clipping, optimizer) as one program per kind of batch. A capture
runs the Python of the step once, so anything a step does besides computing with tensors would be lost in later calls.
Such a step is recognized by comparing the module's Python state before and after the capture (``train.pystate``), by
what it asks the Trainer for, by what it prints and logs; it then runs eagerly, and a note on the standard error stream
says why, once in a run. The same is done with a step that cannot be captured or compiled at all. What the module
holds is compared again at the start of each epoch, and after every step if there are hooks of users between steps;
changes make new programs.

Where the loader's batches are rows of tensors in memory and nobody looks in between (no hooks of users around a step,
no scheduler that goes by steps), steps gather their rows by themselves and follow each other in one call of machine
code, for a twentieth of a second at a time. What was logged is then handed on step by step; a loss that is not finite
ends the call at its step.

Not seen: changes of state that neither the module nor the optimizer holds (files, clocks, attributes of objects that
only functions of other files know). Give such values as tensors that the module holds, or use ``compile=False``.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from chainrule import tensors as ct
from chainrule.compiler.compiled import Compiled, enabled
from chainrule.compiler.llvm.target import available
from chainrule.compiler.verify import VerificationError
from chainrule.core import trees
from chainrule.core.errors import TracerError, explain, is_internal
from chainrule.ir.state import no_grad
from chainrule.train.pystate import OptimizerSnapshot, Snapshot, parameters_with_hooks

#: fewer steps than this are not worth the time of compiling; ``compile=True`` compiles them all the same
MIN_STEPS = 100
#: a step that asks for more programs than this runs eagerly from then on
MAX_PROGRAMS = 16

# What a step may ask its Trainer during a capture: it stays the same during a run.
_CONSTANT = (
    "max_epochs", "max_steps", "min_epochs", "num_training_batches", "estimated_stepping_batches", "fast_dev_run",
    "accumulate_grad_batches", "default_root_dir", "datamodule", "training", "testing", "predicting", "world_size",
    "is_global_zero", "train_dataloader", "val_dataloaders", "test_dataloaders", "predict_dataloaders",
)  # fmt: skip
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_ONLY_TENSORS = {ct.Tensor}
_LEAVES = (ct.Tensor, *_PLAIN)


def reason_against(setting: bool | str, steps: float) -> tuple[str | None, bool]:
    """Why nothing is to be compiled in a run of so many steps, and whether the user should be told."""
    if setting is False:
        return "compile=False", False
    if setting == "auto" and steps < MIN_STEPS:
        return f"{steps:g} steps are too few to be worth compiling (compile=True compiles them)", False
    if not enabled():
        return "CHAINRULE_COMPILE=0 is set", True
    if not available():
        return "llvmlite is not installed (pip install llvmlite)", True
    return None, False


class Logged:
    """How the values that a program returns are logged: one for each call of ``self.log`` at capture.

    An object that no tree looks into, so it is part of a program's result as it is.
    """

    __slots__ = ("names", "options")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.options: list[dict[str, Any]] = []

    def replay(self, results: Any, values: Sequence[float]) -> None:
        """Log the values of a step."""
        for name, value, options in zip(self.names, values, self.options, strict=True):
            results.log(name, value, **options)


class Recording:
    """What the Trainer is for a step that is being captured: takes what is logged, and refuses what may change."""

    def __init__(self, trainer: Any, step: str) -> None:
        self._trainer, self._step = trainer, step
        self.logged = Logged()
        self.values: list[Any] = []

    def log(self, name: str, value: Any, **options: Any) -> None:
        """Note a value; the program returns it."""
        if not isinstance(value, ct.Tensor) or value.numel() != 1:
            raise TracerError(
                explain(
                    f"{self._step} logs {name!r}, which is no tensor of one element, so it would stay what it is now",
                    got=type(value).__name__,
                    fix="log a tensor, without .item() or float(); numbers that a step does not compute are better "
                    "logged in a hook such as on_train_epoch_end",
                )
            )
        self.logged.names.append(name)
        self.logged.options.append(options)
        self.values.append(value.detach().reshape(()))

    def __getattr__(self, name: str) -> Any:
        if name not in _CONSTANT:
            raise TracerError(
                explain(
                    f"{self._step} asks the Trainer for {name!r}, which may change from step to step",
                    fix="keep what the step needs in an attribute or a buffer of the module, set in a hook",
                )
            )
        return getattr(self._trainer, name)


class BatchIndex:
    """Stands for ``batch_idx`` during a capture; whoever looks at it learns that it differs from call to call."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TracerError(
            explain(
                "the step uses batch_idx, which is another number in every call",
                fix="leave batch_idx alone in the step; do what depends on it in a hook such as on_train_batch_end",
            )
        )

    __int__ = __index__ = __float__ = __bool__ = __str__ = __repr__ = __format__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __pow__ = __rpow__ = __neg__ = __and__ = __or__ = _refuse
    __hash__ = object.__hash__


class _Printed(io.TextIOBase):
    """The standard output during a capture: prints of this thread would be lost in later calls."""

    def __init__(self, stream: Any, step: str) -> None:
        self._stream, self._step, self._thread = stream, step, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            raise TracerError(explain(f"{self._step} prints, which a compiled step would do only once"))
        return int(self._stream.write(text))

    def flush(self) -> None:
        self._stream.flush()


def _definition(module: Any, step: str) -> str:
    """Where the module defines a step."""
    code = inspect.unwrap(getattr(module, step)).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def _refuse_hooks(module: Any) -> None:
    """Hooks are functions of users that look at values in the middle of a step; they would be called only once."""
    names = [n or type(m).__name__ for n, m in module.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    names += parameters_with_hooks(module)
    if names:
        raise TracerError(f"there are hooks on {', '.join(names)}, which a compiled step would call only once")


@contextlib.contextmanager
def recording(trainer: Any, module: Any, step: str, optimizer: Any = None) -> Iterator[Recording]:
    """Captures a step: what is logged goes into the recording; refuses what would happen only once."""
    record = Recording(trainer, step)
    _refuse_hooks(module)
    before = Snapshot(module)
    options = None if optimizer is None else OptimizerSnapshot(optimizer)
    hooks = trainer._hooks
    outer, hooks.running = hooks.running, step.split()[0]
    trainer._recording = record
    try:
        with contextlib.redirect_stdout(_Printed(sys.stdout, step)):  # type: ignore[type-var]
            yield record
        what = before.difference(Snapshot(module))
        if what is None and options is not None:
            what = options.difference(OptimizerSnapshot(optimizer))
        if what is not None:
            raise TracerError(
                f"{step} changes {what}, which a compiled step would do only once\n"
                f"  at:       {_definition(module, step)}\n"
                "  fix:      keep it as a tensor (a buffer of the module, changed in place), or change it in a hook"
            )
    except BaseException:
        before.restore()
        if options is not None:
            options.restore()
        raise
    finally:
        trainer._recording = None
        hooks.running = outer


def _in_words(error: Exception) -> str:
    """The message of an error with the user's line, if it does not name it itself."""
    text = str(error) or "no message"
    if isinstance(error, TracerError):
        return text
    text = f"{type(error).__name__}: {text}"
    places = [f for f in traceback.extract_tb(error.__traceback__) if not is_internal(f.filename)]
    place = places[-1] if places else None
    if place is None or "\n  at: " in text:
        return text
    return f"{text}\n  at:       {place.filename}:{place.lineno}: {place.line}"


class CompiledStep:
    """A step as native code, or the reason why it runs eagerly.

    Args:
        trainer, module: whose step it is.
        name: what it is called in notes.
        function: takes the kind of batch, plain values, and the tensors; runs under :func:`recording`.
        reason: why it is not to be compiled, if that is known.
        tell: whether to print the reason.
        watch_each: compare the module's Python state before each call, since user code runs between them.

    Attributes:
        reason: why the step runs eagerly; None if it is compiled.
    """

    def __init__(
        self,
        trainer: Any,
        module: Any,
        name: str,
        function: Callable[..., Any],
        reason: str | None,
        tell: bool,
        watch_each: bool = False,
    ) -> None:
        self.trainer, self.module, self.name = trainer, module, name
        self.reason = reason
        self._function, self.watch_each = function, watch_each
        self._functions: dict[Any, Compiled] = {}  # one for each kind of batch and other arguments
        self._captures = 0  # of functions that were given up since
        self._state: Snapshot | None = None
        self._changed: str | None = None  # what made the last new function
        self._epoch = -1
        if reason is not None and tell:
            self._note()

    @property
    def captures(self) -> int:
        """How often the step was captured."""
        return self._captures + sum([f.captures for f in self._functions.values()])

    def describe(self) -> str:
        """What the step is, in a few words."""
        return f"eager: {self.reason.splitlines()[0]}" if self.reason is not None else f"compiled, {self._programs()}"

    def _programs(self) -> str:
        n = self.captures
        return f"{n} program{'' if n == 1 else 's'}"

    def _note(self) -> None:
        assert self.reason is not None
        told = self.trainer._told
        if (self.name, self.reason) not in told:
            told.add((self.name, self.reason))
            first, *rest = self.reason.splitlines()
            print("\n".join([f"Note: {self.name} runs eagerly, not compiled: {first}", *rest]), file=sys.stderr)

    def give_up(self, reason: str) -> None:
        """Run eagerly from now on, and say why."""
        self.reason = reason
        self._captures, self._state = self.captures, None
        self._functions = {}
        self._note()

    def __call__(self, batch: Any, plain: Any = ()) -> Any:
        """The result of the compiled step, or None if it has to run eagerly."""
        if self.reason is not None:
            return None
        kind: Any = type(batch)
        tensors = batch if (kind is tuple or kind is list) and set(map(type, batch)) == _ONLY_TENSORS else (batch,)
        kind = kind if tensors is batch else None
        return self._call((kind, plain), partial(self._function, kind, plain), lambda step: step(*tensors))

    def many(self, tensors: tuple[Any, ...], rows: Any, plain: Any) -> tuple[int, Any] | None:
        """Steps on batches that are rows of tensors, one after another in few calls of machine code.

        Args:
            tensors: what a batch is gathered from, as a list.
            rows: their indices, of shape (steps, rows of a batch).
            plain: as for a single step.

        Returns:
            How many steps were done, fewer if a loss was not finite, and their results, stacked, without what the step
            returned; None if it has to run eagerly.
        """
        if self.reason is not None:
            return None
        key = ("rows", *map(id, tensors), plain)
        found = self._call(
            key, partial(_gathering, self._function, tensors, plain), lambda step: step.repeat((rows,), watched=True)
        )
        return None if found is None else (found.done, found.stacked())

    def _call(self, key: Any, function: Callable[..., Any], run: Callable[[Compiled], Any]) -> Any:
        """What ``run`` gives for the compiled function that belongs to a key; None if that has to run eagerly."""
        if self._epoch != self.trainer.current_epoch or (
            self.watch_each and self._state is not None and not self._state.surely_unchanged()
        ):
            self._refresh()
        step = self._functions.get(key)
        if step is None:
            step = self._functions[key] = Compiled(function)
        try:
            result = run(step)
        except VerificationError:  # wrong machine code is a defect to be told, not a reason to go on another way
            raise
        except Exception as error:  # noqa: BLE001 - the eager step that follows raises it again, or the note tells it
            self.give_up(_in_words(error))
            return None
        if self.captures > MAX_PROGRAMS:
            last = step.reasons[-1] if step.reasons else f"{self._changed} changed" if self._changed else ""
            why = last and f"; the last time because {last}"
            self.give_up(f"it had to be compiled {self.captures} times{why}")
        return result

    def _refresh(self) -> None:
        """Forget the compiled functions if the Python state that the module holds has changed."""
        self._epoch = self.trainer.current_epoch
        now = Snapshot(self.module)
        what = None if self._state is None else self._state.difference(now)
        if what is not None:
            self._captures, self._changed = self.captures, what
            self._functions = {}
        self._state = now


def eval_function(trainer: Any, module: Any, name: str, step: Callable[..., Any], extra: tuple[Any, ...]) -> Any:
    """A function of the batch for :class:`CompiledStep`: an evaluation step; ``extra`` are its further arguments."""
    return partial(_evaluate, _Context(trainer, name), module, step, extra)


class _Context:
    """The Trainer, where the guards of a program need not look into it."""

    __slots__ = ("name", "trainer")

    def __init__(self, trainer: Any, name: str) -> None:
        self.trainer, self.name = trainer, name


def _batch_of(kind: Any, tensors: tuple[Any, ...]) -> Any:
    """The batch: a tuple or list of the tensors, or the only argument itself, where objects that hold tensors are
    refused: they would be fixed in a program, and with them the tensors of this batch.
    """
    if kind is not None:
        return kind(tensors)
    for leaf in trees.flatten(tensors[0])[0]:
        if not isinstance(leaf, _LEAVES):
            raise TracerError(f"the batch holds an object of type {type(leaf).__name__}, not only tensors and numbers")
    return tensors[0]


def _evaluate(
    context: _Context, module: Any, step: Callable[..., Any], extra: tuple[Any, ...], kind: Any, plain: Any, *args: Any
) -> Any:
    with recording(context.trainer, module, context.name) as record:
        output = step(_batch_of(kind, args), *[BatchIndex() if x is BatchIndex else x for x in extra])
    return detached(output, context.name), record.values, record.logged


class How(NamedTuple):
    """What a training step does besides the user's part.

    ``clears``: gradients begin anew; ``steps``: the optimizer steps; ``parts``: batches per step; ``guarded``: a loss
    that is not finite leaves parameters and optimizer state as they were.
    """

    clears: bool
    steps: bool
    parts: int
    guarded: bool
    clip_value: float | None
    clip_kind: str | None


def train_function(trainer: Any, module: Any, optimizer: Any, step: Callable[..., Any], index: bool) -> Any:
    """A function of the batch for :class:`CompiledStep`: a whole training step."""
    return partial(_train, _Context(trainer, "training_step"), module, optimizer, step, index)


def _train(
    context: _Context,
    module: Any,
    optimizer: Any,
    step: Callable[..., Any],
    index: bool,
    kind: Any,
    how: How,
    *args: Any,
) -> Any:
    """As ``Optimization.step`` does it eagerly. Returns the loss, what the step returned, and what it logged."""
    with recording(context.trainer, module, context.name, optimizer) as record:
        batch = _batch_of(kind, args)
        returned = step(batch, BatchIndex()) if index else step(batch)
        loss = returned.get("loss") if isinstance(returned, dict) else returned
        if not isinstance(loss, ct.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise TracerError("training_step returned no loss to compute gradients of")
        if how.clears:
            optimizer.zero_grad()
        (loss if how.parts == 1 else loss / how.parts).backward()
        if how.steps:
            if how.clip_value is not None:
                module.clip_gradients(optimizer, how.clip_value, how.clip_kind)
            if how.guarded:
                _guarded_step(optimizer, loss.detach().reshape(()))
            else:
                optimizer.step()
    return loss.detach().reshape(()), detached(returned, context.name), record.values, record.logged


def _gathering(function: Callable[..., Any], tensors: tuple[Any, ...], plain: Any, rows: Any) -> Any:
    """A training step on rows of tensors: the loss and what was logged."""
    loss, _, values, logged = function(list, plain, *[t[rows] for t in tensors])
    return loss, values, logged


def _guarded_step(optimizer: Any, loss: Any) -> None:
    """``optimizer.step()``, undone where the loss is not finite: a selection in the same pass over the memory."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    held += [t for state in list(optimizer.state.values()) for t in state.values() if isinstance(t, ct.Tensor)]
    with no_grad():
        before = [t.clone() for t in held]
        good = ct.isfinite(loss)
        optimizer.step()
        for t, old in zip(held, before, strict=True):
            t.copy_(ct.where(good, t, old))


def detached(returned: Any, name: str) -> Any:
    """What a step returned, its tensors without history; other objects than tensors and plain values are refused."""
    leaves, structure = trees.flatten(returned)
    for leaf in leaves:
        if not isinstance(leaf, _LEAVES):
            raise TracerError(f"{name} returned an object of type {type(leaf).__name__}, not only tensors and numbers")
        if isinstance(leaf, float | int | complex) and not isinstance(leaf, bool):
            raise TracerError(f"{name} returned the Python number {leaf!r}, which would stay what it is now")
    return trees.unflatten(structure, [x.detach() if isinstance(x, ct.Tensor) else x for x in leaves])
