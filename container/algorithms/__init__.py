"""Algorithms: the interface of one (`contract`), the registry, and a package for each.

Only the modules of an algorithm's package import its framework.
"""
