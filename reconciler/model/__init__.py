"""Pure data: what is desired, what is observed, what is decided, what is to be done.

Contract: frozen values and total functions on them; text in, values out. No clock, randomness, environment, files, network or
processes (ruff bans them here). Everything else in the program speaks in these types.
"""
