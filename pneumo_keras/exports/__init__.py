"""The whole classifier as a file that runs without Keras."""
