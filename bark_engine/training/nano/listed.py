"""Short lists written as one text."""


def listed(text: str) -> list[str]:
    """The parts of a text between white space."""
    return text.split()
