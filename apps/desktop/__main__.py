"""`python -m ondevice.desktop` is the assistant."""

from ondevice.desktop.launch import main

if __name__ == "__main__":
    main()
