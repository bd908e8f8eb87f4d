"""What a program is: frozen values and pure functions; no input, no output, no async."""
