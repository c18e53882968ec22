"""The one exception a user is meant to see."""


class VesaliusError(Exception):
    """Bad input or a broken environment, in one line: what is wrong and what to do.

    The command line prints the message and exits with code 2; library users catch it by this name.
    """


def first_line(error: BaseException) -> str:
    """The first line of what another library raised, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
