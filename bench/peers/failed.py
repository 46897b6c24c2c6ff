"""What ends the comparison of a work."""


class Failed(Exception):
    """A program ended with an error, or an answer was wrong."""
