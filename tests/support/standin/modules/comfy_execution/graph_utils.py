"""Stand-in for `comfy_execution.graph_utils`: the value that stops the nodes behind an output."""


class ExecutionBlocker:
    """An output that no node may use; with a message, the user is told it."""

    def __init__(self, message: str | None):
        self.message = message
