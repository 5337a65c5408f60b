"""`python -m textwright` is the command line too, as torchrun needs it."""

from textwright.cli import main

if __name__ == "__main__":
    main()
