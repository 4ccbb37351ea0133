"""The wire: what is said, in which bytes, within which limits.

`envelopes` holds what a client and the broker say, `auth_link` and `store_link` what the broker and its
workers say; `codec` is the one place where frames are taken apart and put together; `limits` bounds
all of it and `errors` names what can go wrong. Nothing here opens a socket, reads a clock or a file,
or throws dice.
"""
