"""`python -m cir` is the `cir` command."""

from cir_cli.main import main

if __name__ == "__main__":
    main()
