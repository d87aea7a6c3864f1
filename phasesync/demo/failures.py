"""What ends the tour early."""


class ClaimFailedError(Exception):
    """Something that a step says of phasesync did not hold. The text is for the operator and names no other value."""


class OutOfTimeError(BaseException):
    """
    The tour took longer than it may.

    Like KeyboardInterrupt it may come up anywhere, and passes every `except Exception`.
    """
