"""A small stand-in of ComfyUI, for machines without one: enough to load the pack, check a graph, run and cache it.

`modules/` holds what the pack and the probe nodes import, each file named like the real one; `executor.py` does what
the server and its executor do; `core_nodes.py` holds the audio nodes of ComfyUI that the tests and examples use. It is
written from the host's behaviour, strict where versions differ: schemas are judged by 0.3.64's rules, values and
interruptions by 0.26's. The tests that run on it run on a real ComfyUI, too, where there is one; that keeps it honest.
"""
