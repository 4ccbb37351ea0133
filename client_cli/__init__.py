"""The command, `chat` or `restante`: people and scripts send and read with it, and start a server."""
