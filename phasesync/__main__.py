"""
Where the process begins: the script `phasesync`, and `python -m phasesync`.

Thin, so that Ctrl-C while the command line is being imported ends as Ctrl-C does later: with exit 130 and no traceback.
"""

import sys


def main() -> None:
    """Run the command line of this process."""
    try:
        from phasesync.cli.imports import no_collection

        with no_collection("phasesync.cli.main"):
            from phasesync.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
