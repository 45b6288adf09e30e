"""Layer 0: dtypes and promotion, shapes, trees, errors, configuration, random bits. No opinion about ops."""
