"""The command line: parses, asks the engine and the stores, and prints. Decides nothing."""
