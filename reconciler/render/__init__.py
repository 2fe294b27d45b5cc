"""Model values to text: nginx configuration, status README, commit messages, terminal summaries.

Contract: pure and deterministic (the same value gives the same bytes). Templates ship in this package only, never in a config
repository; values come from validated models.
"""
