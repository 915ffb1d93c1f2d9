"""`python -m xfer`."""

from xfer.cli.app import main

if __name__ == "__main__":
    main()
