"""Algorithms: what training and serving ask of one (`base`), and which there are (`registry`).

The files of an algorithm begin with the name of its framework, which only they import.
"""
