"""`python -m cir` is the `cir` command."""

from cir.cli import main

if __name__ == "__main__":
    main()
