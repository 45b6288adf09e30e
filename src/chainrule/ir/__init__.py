"""Layer 1: what a program is. Op records and their registry, the current interpreter, the graph and its verifier."""
