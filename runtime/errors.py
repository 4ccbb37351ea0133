"""What can go wrong before a service serves: one type, whose text is for a person.

SetupError     keys, settings, locks, endpoints: what happened, and what to do about it
"""


class SetupError(Exception):
    """A service can't start. ``str()`` is one sentence on what happened and one on what to do."""
