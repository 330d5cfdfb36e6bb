"""The exception and the warning that reach a user: a sentence that says what is wrong, where, and what to do.

It must never carry a traceback's worth of text; `cli` prints it as one line and exits with code 2.
"""


class LearningRateWarning(UserWarning):
    """A learning rate that cannot move rows so far that the KS test would see it."""


class UserError(ValueError):
    """A mistake that the user can mend.

    Parameters
    ----------
    message
        One sentence on one line: the object at fault, what is wrong with it, and what to do. Parameters of the library are in
        backticks, which `cli` turns into flags.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
