"""Where people and programs meet dspex. Surfaces translate and decide nothing."""
