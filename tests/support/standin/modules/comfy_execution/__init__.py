"""Stand-in for the part of `comfy_execution` that the pack uses."""
