"""The asyncio client."""


class AsyncClient:
    """As `restante.client.Client`, with `await`."""
