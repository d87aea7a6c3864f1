"""What every implementation of a port has to do: fakes and real adapters run the same suites."""
