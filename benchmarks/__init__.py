"""Measurements, one file a question. They report; none of them fails a build for a time."""
