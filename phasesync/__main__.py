"""`python -m phasesync`: the command line, where the script `phasesync` is not on the PATH."""

from phasesync.cli.main import main

if __name__ == "__main__":
    main()
