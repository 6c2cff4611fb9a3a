"""What a model file says about itself, read without any runtime.

One module per format, imported only when a file of that format is opened. Every file is untrusted:
offsets, lengths and the total amount of work are bounded before anything is read.
"""

#: What to do about a file that contradicts itself: whoever sent it may have cut it short, or whoever wrote it erred.
REFETCH = "fetch or convert it again"
