"""Tell what happens: log lines from events, from phasesync itself and from the libraries below it."""
