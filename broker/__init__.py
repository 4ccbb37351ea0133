"""The broker: sessions, routing, back-pressure and delivery.

It decides and routes, and keeps nothing that a restart would lose. It reads addressing, never a body.
"""
