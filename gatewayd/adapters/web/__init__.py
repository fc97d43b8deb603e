"""The installer's page: a process of its own that speaks HTTP, and holds no key and no file.

It asks the process that started it (`gatewayd.setup_web`) for steps, over a
socket, in the few words of `wire`; that one runs the terminal's commands.
"""
