"""The one shell that broker, auth_service and store_worker share.

Cores decide, this package performs: poll loop, sockets, keys, settings, logging, supervision. It knows no
service.
"""
