"""The store: messages, and who has read them.

One writer; whatever waits is committed together, and only then confirmed.
"""
