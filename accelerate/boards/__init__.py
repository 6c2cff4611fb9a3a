"""What ``edge-accelerate board-report`` does: tries all of a board in child processes, and makes one file of it."""
