"""PyTorch's ``cuda`` module for programs that ask before they use it: no GPU is driven by the eager mode."""


def is_available() -> bool:
    """Always False."""
    return False


def device_count() -> int:
    """Always 0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing to seed."""


def manual_seed_all(seed: int) -> None:
    """Nothing to seed."""


def synchronize(device: object = None) -> None:
    """Nothing to wait for."""


def empty_cache() -> None:
    """Nothing to free."""
