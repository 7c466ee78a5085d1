"""This machine measured."""
