"""The command ``chainrule``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (it failed), 2 (it was called wrongly), 130 (Ctrl-C)."""
    try:
        import click  # noqa: F401 - only to see whether it is there
    except ImportError:
        print(
            'The chainrule command needs a few more packages. Install them with: pip install "chainrule[cli]"',
            file=sys.stderr,
        )
        return 1
    # Here and not above: everything in it needs click.
    from chainrule.cli.app import run

    return run(arguments)
