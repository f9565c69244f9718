"""Training of Bark's networks on exactly the layout that inference uses.

- clips.py — the data folder: text and tokens of every clip, checked
- build.py — such a folder from recordings and their texts; build_command.py
- layouts.py — a clip → what inference feeds the network, and what it should answer
- batches.py — which clips make up step n, in batches of similar length
- objectives.py — a batch → the loss
- networks.py — a network from scratch, or from given weights; lora.py — small additions instead; merge_command.py
- plan.py, schedule.py, precision.py — every setting of a run; the learning rate; the arithmetic
- state.py — what is saved, so that a killed run goes on as if it had not been
- curves.py — the picture of the losses
- loop.py — `train`; command.py — `python -m bark_engine train`
"""
