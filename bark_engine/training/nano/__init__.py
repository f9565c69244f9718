"""How nano, the small Bark in `bark_engine/assets/nano`, is made from nothing; see docs/nano.md for the steps."""
