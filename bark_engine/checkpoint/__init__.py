"""Weights in every format people have, read safely: what is in a file, and files to modules.

- reading.py — open a file of any format: names and shapes at once, numbers when asked for
- pickles.py — torch files without executing anything
- layouts.py — which stages, under which spelling of the names
- shapes.py — sizes from the weights; everything there, nothing else, and fitting
- stages.py — `describe`: the stages in a file
- build.py — `load_stage`: a stage as a module; `save_stage`
- convert.py — `convert`: to safetensors
"""

from .build import load_stage, save_stage
from .convert import ConvertedStage, ConvertReport, convert
from .layouts import STAGES
from .shapes import narrowed_weights, weight_bytes
from .stages import StageFile, describe, describe_folder

__all__ = [
    "STAGES",
    "ConvertReport",
    "ConvertedStage",
    "StageFile",
    "convert",
    "describe",
    "describe_folder",
    "load_stage",
    "narrowed_weights",
    "save_stage",
    "weight_bytes",
]
