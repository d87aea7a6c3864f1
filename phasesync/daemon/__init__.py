"""The daemon: signals, rounds, health and a clean end. What a round does is the engine's."""
