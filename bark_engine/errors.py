"""What can go wrong, as sentences to a person.

Every error the engine raises on purpose is a `BarkError`. Its message says what was wrong, what was given,
what is allowed and what to do next, so a node or a command line can show it unchanged.
"""


class BarkError(Exception):
    """Any refusal by the engine; the message is written for the person who meets it."""

    # ComfyUI shows the module in front of the sentence, and loads the pack under a name made of its whole path.
    # Every child must be found in that module, or it cannot be pickled, as it is on its way out of another process.
    __module__ = "bark_engine"

    def __init_subclass__(cls) -> None:
        cls.__module__ = BarkError.__module__


class BarkInputError(BarkError, ValueError):
    """A text, token tensor, speaker prompt, sampling knob or setting that cannot be used."""


class BarkFileError(BarkError):
    """A file that is missing, damaged, unsafe, or not what it is said to be; the message names the file."""


class BarkNameTakenError(BarkFileError):
    """A file of that name is there already, and was not to be replaced."""


class BarkDownloadError(BarkError):
    """A download that was asked for and could not be completed; nothing half-done is left in the models folder."""


class BarkMemoryError(BarkError):
    """The device ran out of memory, also after everything else was moved out of the way."""
