"""The tests of phasesync: folders mirror the package."""
