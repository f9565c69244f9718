"""Looking at tokens: what is given, on one axis of time, as numbers for a browser, as a picture and in words.

- timeline.py — `View`: tokens, sound and trace together, their families and lengths; a checked selection
- sound.py — outline and log-mel spectrogram, in columns of equal time
- runs.py — stretches in which one id repeats itself
- summary.py — lengths, distinct ids, repeats, silence, and what the trace knew, as text
- payload.py — the safetensors file that the browser draws from
- picture.py — the same drawn here, as an array of pixels
"""

from .payload import Payload, make_payload
from .picture import draw_view
from .summary import summary
from .timeline import View

__all__ = ["Payload", "View", "draw_view", "make_payload", "summary"]
