"""Callbacks for the trainers of frameworks: one entry instead of the lines written by hand.

``lightning`` and ``transformers`` each have a ``CMIEICallback``. Each of these modules imports its
framework, and nothing else in this package imports them.
"""
