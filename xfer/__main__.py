"""`python -m xfer`."""

from xfer.cli import main

if __name__ == "__main__":
    main()
