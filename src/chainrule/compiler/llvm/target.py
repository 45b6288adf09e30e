"""The host processor, and the way from LLVM IR text to callable machine code.

llvmlite is imported here alone, at first use. :func:`host` says which vector registers there are; what it finds can be
cut down for tests with ``CHAINRULE_CPU_FEATURES=sse2|avx2|avx512`` or :func:`describe`'s argument.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

from chainrule.core.errors import explain

LEVELS = ("sse2", "avx2", "avx512")
_ENVIRONMENT = "CHAINRULE_CPU_FEATURES"
_X86 = ("x86_64", "amd64", "AMD64")
_ARM = ("aarch64", "arm64", "ARM64")

#: NumPy's names of the C types that compiled functions take and return; pointers are passed as integers.
_CTYPES: dict[str, Any] = {
    "ptr": ctypes.c_void_p, "i64": ctypes.c_int64, "i32": ctypes.c_int32, "i16": ctypes.c_int16, "i8": ctypes.c_int8,
    "u8": ctypes.c_uint8, "f32": ctypes.c_float, "f64": ctypes.c_double,
}  # fmt: skip


class BackendUnavailableError(RuntimeError, ImportError):
    """Native code cannot be made on this machine: llvmlite is absent, or the processor is of an unknown kind."""


def available() -> bool:
    """Whether llvmlite is installed (it is not imported to find out)."""
    return importlib.util.find_spec("llvmlite") is not None


@cache
def llvm() -> ModuleType:
    """``llvmlite.binding``, ready for this machine; raises :class:`BackendUnavailableError` where it is absent."""
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise BackendUnavailableError(
            explain(
                "native compilation needs llvmlite, which is not installed",
                fix="pip install llvmlite, or set CHAINRULE_COMPILE=0 to run eagerly without this message",
            )
        ) from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@dataclass(frozen=True)
class Target:
    """What code is generated for.

    Attributes:
        cpu, features, triple: LLVM's names.
        level: "sse2", "avx2", "avx512" or "neon".
        vector_bytes: size of the widest vector register in bytes.
        registers: how many of them there are.
        has_fma: whether a fused multiply-add is one instruction.
        has_f16: whether conversions between float16 and float32 are instructions.
        has_avx2, has_avx512f, has_avx512dq, has_avx512bf16, has_amx: single x86 features.
    """

    cpu: str
    features: str
    triple: str
    level: str
    vector_bytes: int
    registers: int
    has_fma: bool
    has_f16: bool
    has_avx2: bool = False
    has_avx512f: bool = False
    has_avx512dq: bool = False
    has_avx512bf16: bool = False
    has_amx: bool = False

    @property
    def is_x86(self) -> bool:
        """Whether x86 intrinsics may be used."""
        return self.level != "neon"

    def width(self, itemsize: int) -> int:
        """Number of elements of ``itemsize`` bytes in the widest register."""
        return self.vector_bytes // itemsize

    @property
    def attributes(self) -> str:
        """Function attributes that let LLVM use the widest registers, which it avoids by itself on many processors."""
        if not self.is_x86:
            return "nounwind"
        bits = 8 * self.vector_bytes
        return f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'

    @property
    def key(self) -> str:
        """All that the object code depends on besides its IR."""
        version = ".".join(map(str, llvm().llvm_version_info))
        return f"{self.triple} {self.cpu} {self.features} {self.level} llvm {version}"

    def __str__(self) -> str:
        return f"{self.cpu} ({self.level}: {self.registers} registers of {self.vector_bytes} bytes)"


def host() -> Target:
    """The machine this runs on, cut down to ``CHAINRULE_CPU_FEATURES`` where that is set."""
    return describe(os.environ.get(_ENVIRONMENT) or None)


@cache
def describe(level: str | None = None) -> Target:
    """The host with its vector registers cut down to ``level`` (None: all it has).

    Raises ``ValueError`` for an unknown level or one the processor does not have, :class:`BackendUnavailableError` for
    a processor that is neither x86-64 nor 64-bit ARM.
    """
    binding = llvm()
    triple, cpu = binding.get_process_triple(), binding.get_host_cpu_name()
    machine = platform.machine()
    if machine in _ARM:
        if level is not None:
            raise ValueError(explain(f"{_ENVIRONMENT} cuts down x86 processors only", got=f"{level!r} on {machine}"))
        features = binding.get_host_cpu_features().flatten()
        return Target(cpu, features, triple, "neon", 16, 32, has_fma=True, has_f16=True)
    if machine not in _X86:
        raise BackendUnavailableError(
            explain("no native code for this processor", expected="x86-64 or 64-bit ARM", got=machine)
        )
    found = binding.get_host_cpu_features()
    has = lambda *names: all(found.get(n, False) for n in names)  # noqa: E731 - a word for the lines below
    best = "sse2"
    if has("avx2", "fma", "f16c"):
        best = "avx2"
        if has("avx512f", "avx512dq", "avx512bw", "avx512vl"):
            best = "avx512"
    if level is None:
        level = best
    if level not in LEVELS:
        raise ValueError(explain(f"unknown {_ENVIRONMENT}", expected=" or ".join(LEVELS), got=repr(level)))
    if LEVELS.index(level) > LEVELS.index(best):
        raise ValueError(explain(f"this processor has no {level}", expected=f"{best} or less", got=level))
    if level == "avx512":
        return Target(
            cpu, found.flatten(), triple, level, 64, 32, has_fma=True, has_f16=True, has_avx2=True, has_avx512f=True,
            has_avx512dq=True, has_avx512bf16=has("avx512bf16"), has_amx=has("amx-tile", "amx-bf16"),
        )  # fmt: skip
    if level == "avx2":
        return Target("x86-64-v3", "", triple, level, 32, 16, has_fma=True, has_f16=True, has_avx2=True)
    return Target("x86-64", "", triple, level, 16, 16, has_fma=False, has_f16=False)


def _machine(target: Target, opt: int) -> Any:
    """A fresh LLVM target machine. An engine takes ownership of the one it gets, so they are not shared."""
    # The large code model: the small one would save an instruction per constant, but it needs all sections of an object
    # within 2 GiB, which the engine's memory manager promises to nobody.
    return (
        llvm()
        .Target.from_triple(target.triple)
        .create_target_machine(
            cpu=target.cpu,
            features=target.features,
            opt=opt,
            reloc="default",
            codemodel="jitdefault",
            jit=True,
        )
    )


_local = threading.local()


def compile_ir(
    text: str, target: Target | None = None, *, opt: int = 3, timings: dict[str, float] | None = None
) -> bytes:
    """Object code of a module given as IR text.

    Args:
        text: LLVM IR.
        target: what to compile for; the host if not given.
        opt: effort of the code generator, 0 to 3; no IR passes are run.
        timings: gets "parse" and "codegen" in seconds.

    Raises:
        ValueError: with LLVM's message and the lines around the place if the text is not valid IR.
    """
    binding = llvm()
    target = target or host()
    machines = _local.__dict__.setdefault("machines", {})
    machine = machines.get((target, opt))
    if machine is None:
        machine = machines[target, opt] = _machine(target, opt)
    start = time.perf_counter()
    try:
        module = binding.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        what = "the generated IR is not valid: a defect of the code generator, please report it"
        raise ValueError(explain(what, got=_place(text, str(error)))) from error
    parsed = time.perf_counter()
    code: bytes = machine.emit_object(module)
    if timings is not None:
        timings["parse"] = parsed - start
        timings["codegen"] = time.perf_counter() - parsed
    return code


def assembly(text: str, target: Target | None = None, *, opt: int = 3) -> str:
    """The machine code of a module as assembly text, to read."""
    target = target or host()
    result: str = _machine(target, opt).emit_assembly(llvm().parse_assembly(text))
    return result


def _place(text: str, message: str) -> str:
    """LLVM's message with the line it points to."""
    parts = message.split(":")
    for i, part in enumerate(parts[:-1]):
        if part.strip() == "<string>" and parts[i + 1].isdigit():
            lines = text.splitlines()
            n = int(parts[i + 1])
            shown = lines[max(0, n - 3) : n + 1]
            return message + "\n" + "\n".join(shown)
    return message


@dataclass
class NativeModule:
    """Loaded machine code. It lives as long as this object or a function taken from it.

    Attributes:
        target: what it was made for.
        timings: seconds of each step: "parse" and "codegen" (absent for a cached object), "load".
        size: bytes of object code.
    """

    target: Target
    engine: Any
    size: int
    timings: dict[str, float] = field(default_factory=dict)

    def address(self, name: str) -> int:
        """Where a function starts; raises ``KeyError`` for an unknown name."""
        address: int = self.engine.get_function_address(name)
        if not address:
            raise KeyError(explain(f"no function {name!r} in this compiled module"))
        return address

    def function(self, name: str, *arguments: str, returns: str | None = None) -> Callable[..., Any]:
        """A Python callable of a function; argument and result types as "ptr", "i64", "i32", "f32", "f64", ...

        Pointers are passed as integers; the caller keeps the owner of every address alive. The GIL is released
        during the call.
        """
        kind = ctypes.CFUNCTYPE(_CTYPES[returns] if returns else None, *(_CTYPES[a] for a in arguments))
        f: Any = kind(self.address(name))
        f.owner = self
        return f  # type: ignore[no-any-return]


def load(code: bytes, target: Target | None = None, *, timings: dict[str, float] | None = None) -> NativeModule:
    """Map object code into this process and resolve its symbols."""
    binding = llvm()
    target = target or host()
    start = time.perf_counter()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(target, 3))
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    timings = {} if timings is None else timings
    timings["load"] = time.perf_counter() - start
    return NativeModule(target, engine, len(code), timings)


def build(text: str, target: Target | None = None, *, opt: int = 3) -> NativeModule:
    """Compile and load without a cache."""
    timings: dict[str, float] = {}
    return load(compile_ir(text, target, opt=opt, timings=timings), target, timings=timings)
