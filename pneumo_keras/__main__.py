"""Makes `python -m pneumo_keras` the same as `pneumo-keras`."""

from pneumo_keras.cli import main

main()
