"""What there is to load, on this machine and on the hub: sets of models, and speaker prompts by name.

- model_sets.py — which files make up "large", and what is missing
- sources.py — which files may be meant by a name, best first; the names there are
- places.py — where they are looked for
- family.py — which files belong together
- download.py — Suno's files from the hub, only when asked
- speakers.py — speaker prompts by name
"""
