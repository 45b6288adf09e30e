"""PyTorch's ``mps`` module for programs that ask before they use it: no GPU is driven by the eager mode."""


def manual_seed(seed: int) -> None:
    """Nothing to seed."""


def synchronize() -> None:
    """Nothing to wait for."""


def empty_cache() -> None:
    """Nothing to free."""
