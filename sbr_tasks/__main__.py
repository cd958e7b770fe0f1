"""Starts `sbr`: apart from the command line itself, whose imports take long enough to be interrupted."""

import sys

from sbr_tasks.errors import INTERRUPTED


def main() -> None:
    """Runs the command line; Ctrl-C while it is loaded ends it without a word, as nothing was begun."""
    try:
        from sbr_tasks.cli import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
