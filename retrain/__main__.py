"""Run the command `retrain`, also as `python -m retrain`."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command; exit without a traceback on Ctrl-C, also while its modules are imported."""
    try:
        from retrain.cli import commands
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    commands(prog_name="retrain")


if __name__ == "__main__":
    main()
