"""`python -m ondevice` is the command `ondevice`."""

from ondevice.cli import main

if __name__ == "__main__":
    main()
