"""Mistakes that a person can mend: shown as a message, never as a traceback."""


class UserError(Exception):
    """Something outside the code is not as it must be; the text says what came, what was expected and what to do."""


def one_line(error: Exception, limit: int = 300) -> str:
    """Return the first `limit` characters of what `error` says, without line breaks; its kind where it says nothing."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


class OtherThreadsError(UserError):
    """The backend runs already, with another number of threads than is asked for now."""
