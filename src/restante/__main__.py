"""`python -m restante`: the same as the command."""

from restante.cli import main

main()
