"""The two sides of the load test of `samhq serve`: the server with its clients, and the bare runtime."""
