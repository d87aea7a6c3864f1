"""The tour: the real daemon beside an AWS emulator in this process. It leaves nothing behind."""
