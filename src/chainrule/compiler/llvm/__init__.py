"""Native code: the only package that knows LLVM. Nothing here imports llvmlite before the first compilation."""
