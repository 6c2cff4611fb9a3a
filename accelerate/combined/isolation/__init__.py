"""A model in a child process: what crashes, hangs or leaks there leaves the program as it is.

`load_isolated` gives Models whose calls go to children over a socketpair (`frames`), with the tensors in shared memory
(`memory`, `placing`). The program's side is `model` over `link` over `process`; the child's is `child`.
"""
