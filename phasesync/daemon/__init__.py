"""The daemon process: signals, periodic chores, health and shutdown. `engine` says what a chore does."""
