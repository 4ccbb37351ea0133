"""Restante under attack: inputs that nobody well-meant sends, by the million, and hostile peers over real sockets.

`python -m tests.attack.fuzz` feeds decoders and cores in memory, `python -m tests.attack.flood` a real server over
loopback, and `python -m tests.attack.guided` lets atheris look for ways through the decoders, where it is installed.
"""
