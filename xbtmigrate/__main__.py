"""Run the command line with `python -m xbtmigrate`."""

from xbtmigrate.cli import main

if __name__ == "__main__":
    main()
