"""`python -m xbtmigrate_research`."""

from xbtmigrate_research.cli import main

main()
