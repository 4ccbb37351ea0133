"""The accounts: names, passwords and tokens.

Several of these may run; the broker spreads requests over those that are ready.
"""
