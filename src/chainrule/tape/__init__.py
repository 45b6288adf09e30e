"""Layer 3: reverse mode. Nodes, and an iterative engine that moves cotangents; it knows nothing of Tensor."""
