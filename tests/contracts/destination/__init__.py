"""What every destination has to do: the fake, and the real adapter on two emulators, run the same tests."""
