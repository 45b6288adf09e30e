"""How fast chainrule is, beside PyTorch and JAX. Run it as ``python -m benchmarks``; see docs/benchmarks.md."""
