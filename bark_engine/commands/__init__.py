"""What the commands of `python -m bark_engine` have in common, and those with a file of their own."""
