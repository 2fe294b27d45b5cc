"""The only place where decisions meet effects: observe, decide, plan, carry out, report; once or as a daemon.

Contract: contains the order of things and no decision of its own; sees effects through Protocols, so that the simulation can
stand in for every one of them.
"""
