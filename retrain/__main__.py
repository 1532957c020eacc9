"""The program `retrain`, which `python -m retrain` starts too."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command. Its modules take a moment to import; Ctrl-C ends that quietly too."""
    try:
        from retrain.cli import commands
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    commands(prog_name="retrain")


if __name__ == "__main__":
    main()
