"""restante.client and the command line, over a real server in its own processes."""
