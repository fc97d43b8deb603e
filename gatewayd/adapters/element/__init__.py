"""Private keys in a secure element that speaks PKCS#11, over python-pkcs11 (an extra).

`token` talks to the element; `keys` are what the rest of the daemon holds.
"""
