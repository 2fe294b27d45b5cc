"""One module per command of `reconcile`: what it reads, what it shows, which code it ends with.

A command asks the engine and shows the answer through `output`; texts and rows come from `reconciler.render`. Nothing is decided
here, and only `once` and `run` change anything on a server. `retry` writes a request that the daemon finds.
Exit codes are those of `reconciler.commands.codes`; errors leave as exceptions and become a code in one place, `reconciler.cli`.
"""
