"""What is measured side by side: a module a peer, each behind the interface in `peer`."""
