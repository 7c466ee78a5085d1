"""The engines of this machine measured."""
