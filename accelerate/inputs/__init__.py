"""A user's own inputs: the files that commands run a model on, folders of them, and what they are said to show."""
