"""`restante doctor`: is this installation well, and if not, what mends it? Each check is one function."""
