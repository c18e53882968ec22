"""The one exception a user is meant to see."""

_LONGEST = 2000  # characters of a message


class VesaliusError(Exception):
    """Bad input or a broken environment, in one line: what is wrong and what to do.

    The command line prints the message and exits with code 2; library users catch it by this name.
    Of a message that quotes too much of a file, the middle is left out.
    """

    def __init__(self, message: str = "") -> None:
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 4 :]}"
        super().__init__(message)


def one_line(text: str) -> str:
    """`text` as a terminal shows it safely: what is invisible or moves the cursor is escaped."""
    shown = (each if each.isprintable() else repr(each)[1:-1] for each in " ".join(text.split()))
    return "".join(shown)


def first_line(error: BaseException) -> str:
    """The first line of what another library raised, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
