"""Mistakes that a person can mend: shown as a message, never as a traceback."""


class UserError(Exception):
    """Something outside the code is not as it must be; the text says what came, what was expected and what to do."""
