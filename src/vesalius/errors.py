"""The one exception a user is meant to see."""


class VesaliusError(Exception):
    """Bad input or a broken environment, told in one line: what is wrong and what to do.

    The command line prints the message and exits with code 2; library users catch it by this name.
    """
