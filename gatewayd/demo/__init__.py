"""A staircase on one machine: the real daemon, emulated phones and locks, told as a story."""
