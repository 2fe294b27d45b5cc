"""One adapter per outside thing: Git, Docker, nginx, probes, files, the clock, processes.

Contract: an adapter does what it is told and reports what it found, as model values; it decides nothing and knows no other
adapter's business. Failures are raised as `Transient` or `Stalled`.
"""
