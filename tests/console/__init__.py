"""The console: what people see, over real HTTP and in a real browser."""
