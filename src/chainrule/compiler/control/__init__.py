"""Control flow as data: ``cond`` and ``scan``, each one instruction of a captured program with graphs inside."""
