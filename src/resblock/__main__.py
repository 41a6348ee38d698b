"""``python -m resblock`` is the command line."""

from resblock.cli import main

if __name__ == "__main__":
    main()
