"""A tiny program with one capability, beside a daemon with none.

The daemon parses strangers' bytes, so it may do nothing to the kernel. What
only the Bluetooth management socket can do (CAP_NET_ADMIN) is done here, by a
program that hears nobody but the daemon: the signal strength of a connected
phone, and switching an adapter off and on. It imports nothing of the daemon,
and nothing but the standard library.
"""
