"""Serves runs over HTTP: OpenAI's completions, scores, tokens, and what the page needs. Thin: all
text is written by one thread that drives the engines.

FastAPI is an extra, so it is imported inside the functions that make an app of it.
"""
