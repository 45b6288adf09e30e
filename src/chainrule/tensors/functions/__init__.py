"""Public functions of tensors, composed from primitives. Each module lists what it offers in ``FUNCTIONS``."""
