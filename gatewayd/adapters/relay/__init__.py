"""A door strike on a GPIO line: a lock with no senses, in a process of its own.

`relay` is the daemon's side, `keeper` the process that owns the line, `line`
the one module that imports gpiod. Nothing is imported here, so that the
keeper stays small.
"""
